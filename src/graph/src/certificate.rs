//! Signing in as the app registration with a certificate instead of a secret.
//!
//! Facts (learn.microsoft.com/entra/identity-platform/certificate-credentials): the token request carries `client_assertion`, a
//! JWT signed with the certificate's private key (PS256), whose header names the certificate by `x5t#S256` and whose `aud` is
//! the token endpoint; it is good for some minutes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// How long an assertion is good for.
const LIVES: TimeDelta = TimeDelta::minutes(5);
/// Clocks differ.
const BACKDATED: TimeDelta = TimeDelta::minutes(1);

/// A certificate and its private key.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<dyn SigningKey>,
    thumbprint: String,
    made: Arc<AtomicU64>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// There is none.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// There is no key.
    #[error("there is no private key in it")]
    NoKey,
    /// The key is of a kind that Microsoft does not take.
    #[error("its private key is no RSA key, which Microsoft asks for")]
    NotRsa,
    /// The signature failed.
    #[error("the private key does not sign")]
    Sign,
}

impl Certificate {
    /// From PEM text that holds the certificate and its private key, in any order.
    ///
    /// # Errors
    ///
    /// When one of them is missing, or the key is none of RSA.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| CertificateError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| CertificateError::NoKey)?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| CertificateError::NotRsa)?;
        if key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]).is_none() {
            return Err(CertificateError::NotRsa);
        }
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate));
        Ok(Self { key, thumbprint, made: Arc::default() })
    }

    /// The proof that `client_id` is us, for one request to the token endpoint.
    ///
    /// # Errors
    ///
    /// When the key does not sign.
    pub fn assertion(&self, client_id: &str, token_url: &str, now: DateTime<Utc>) -> Result<String, CertificateError> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let id = Sha256::digest(format!("{client_id} {number} {:?}", now.timestamp_nanos_opt()));
        let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint });
        let claims = json!({
            "aud": token_url, "iss": client_id, "sub": client_id, "jti": URL_SAFE_NO_PAD.encode(id),
            "nbf": (now - BACKDATED).timestamp(), "iat": (now - BACKDATED).timestamp(), "exp": (now + LIVES).timestamp(),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]).ok_or(CertificateError::NotRsa)?;
        let signature = signer.sign(signed.as_bytes()).map_err(|_| CertificateError::Sign)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Self-signed, made for this test alone.
    const PEM: &[u8] = include_bytes!("../fixtures/certificate.test.pem");

    fn decoded(part: &str) -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn an_assertion_names_certificate_client_and_endpoint_and_is_never_the_same_twice() {
        let certificate = Certificate::from_pem(PEM).unwrap();
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        let assertion = certificate.assertion("app", "https://login.example/token", now).unwrap();
        let parts: Vec<&str> = assertion.split('.').collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(decoded(parts[0])["alg"], "PS256");
        assert_eq!(URL_SAFE_NO_PAD.decode(decoded(parts[0])["x5t#S256"].as_str().unwrap()).unwrap().len(), 32);
        let claims = decoded(parts[1]);
        assert_eq!(
            (&claims["iss"], &claims["sub"], &claims["aud"]),
            (&json!("app"), &json!("app"), &json!("https://login.example/token"))
        );
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap(), 360);
        let again = certificate.assertion("app", "https://login.example/token", now).unwrap();
        assert_ne!(decoded(again.split('.').nth(1).unwrap())["jti"], claims["jti"]);
    }

    #[test]
    fn what_is_missing_is_told() {
        assert_eq!(Certificate::from_pem(b"nonsense").unwrap_err(), CertificateError::NoCertificate);
        let text = std::str::from_utf8(PEM).unwrap();
        let alone = text.split_inclusive("-----END CERTIFICATE-----").next().unwrap();
        assert_eq!(Certificate::from_pem(alone.as_bytes()).unwrap_err(), CertificateError::NoKey);
    }
}
