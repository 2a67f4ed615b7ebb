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
    expires: Option<DateTime<Utc>>,
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
        Ok(Self { key, thumbprint, expires: not_after(&certificate), made: Arc::default() })
    }

    /// When it ends, when that can be read.
    #[must_use]
    pub const fn expires(&self) -> Option<DateTime<Utc>> {
        self.expires
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

/// The first element of DER: its tag, its content, and what follows it (X.690, definite lengths).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `notAfter` (RFC 5280, 4.1): version, serial number, algorithm and issuer stand before the validity.
fn not_after(certificate: &[u8]) -> Option<DateTime<Utc>> {
    const VERSION: u8 = 0xa0;
    const UTC_TIME: u8 = 0x17;
    let (_, whole, _) = element(certificate)?;
    let (_, mut rest, _) = element(whole)?;
    if let Some((VERSION, _, after)) = element(rest) {
        rest = after;
    }
    for _ in ["serialNumber", "signature", "issuer"] {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (tag, text, _) = element(element(validity)?.2)?;
    let text = std::str::from_utf8(text).ok()?;
    // Two digits of a year: up to 49 they are of this century.
    let text = match (tag, text.get(..2)?.parse::<u32>().ok()?) {
        (UTC_TIME, year) => format!("{}{text}", if year < 50 { "20" } else { "19" }),
        _ => text.to_owned(),
    };
    let at = chrono::NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?;
    Some(at.and_utc())
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
    fn the_end_of_the_certificate_is_read_as_openssl_reads_it() {
        let expires = Certificate::from_pem(PEM).unwrap().expires().unwrap();
        assert_eq!(expires.to_rfc3339(), "2126-10-29T22:41:23+00:00");
        for broken in
            [&[][..], &[0x30], &[0x30, 0x82, 0xff], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1], &[0x30, 2, 0x30, 0]]
        {
            assert_eq!(not_after(broken), None);
        }
    }

    #[test]
    fn a_year_of_two_digits_is_of_this_century_up_to_49() {
        let time = |text: &str| [&[0x17, 13][..], text.as_bytes()].concat();
        let sequence = |content: &[u8]| [&[0x30, u8::try_from(content.len()).unwrap()], content].concat();
        let validity = sequence(&[time("260101000000Z"), time("270203040506Z")].concat());
        let body = sequence(&[&[2, 1, 1, 0x30, 0, 0x30, 0][..], &validity].concat());
        assert_eq!(not_after(&sequence(&body)).unwrap().to_rfc3339(), "2027-02-03T04:05:06+00:00");
    }

    #[test]
    fn what_is_missing_is_told() {
        assert_eq!(Certificate::from_pem(b"nonsense").unwrap_err(), CertificateError::NoCertificate);
        let text = std::str::from_utf8(PEM).unwrap();
        let alone = text.split_inclusive("-----END CERTIFICATE-----").next().unwrap();
        assert_eq!(Certificate::from_pem(alone.as_bytes()).unwrap_err(), CertificateError::NoKey);
    }
}
