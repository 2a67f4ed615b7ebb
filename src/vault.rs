//! The vault: secrets are sealed before they reach the database.
//!
//! A sealed text is `1.<key id>.<base64url of nonce and ciphertext>`, XChaCha20-Poly1305 with a random 192-bit nonce (long
//! enough to be drawn at random for ever). The purpose is authenticated data: a secret that was sealed as one thing cannot
//! be opened as another, so rows cannot be swapped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead as _, Generate as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::config::Config;

const NONCE: usize = 24;
/// Name of the key's file in the working folder, where the database is on a server.
const NAME: &str = "espo-outlook";

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Vault {
    cipher: Arc<XChaCha20Poly1305>,
    key_id: String,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Why there is no key, or a secret could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key has another length or form.
    #[error("the encryption key must be 32 bytes in base64; make one with `openssl rand -base64 32`")]
    Key,
    /// The file of the key cannot be used.
    #[error("cannot use the encryption key file {} (security.encryption_key_file)", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file that was named is not there.
    #[error("the encryption key file {} does not exist; correct security.encryption_key_file, or make the file with `openssl rand -base64 32`", .0.display())]
    Missing(PathBuf),
    /// Sealed with another key, for another purpose, or tampered with.
    #[error(
        "a stored secret cannot be opened: it was sealed with another encryption key (security.encryption_key, security.encryption_key_file), or changed"
    )]
    Sealed,
    /// This process has another key than the one that the database was set up with.
    #[error(
        "the secrets in the database were sealed with another encryption key: give this process the same one (copy the key file, or set security.encryption_key or security.encryption_key_file)"
    )]
    Other,
    /// The cipher refused.
    #[error("a secret cannot be sealed")]
    Seal,
}

impl Vault {
    /// A vault with the key of the configuration: given, from the file that is named, or from a file beside the database,
    /// which is generated (readable by its owner only) when it is not there. For a database server that is a file in the
    /// working folder: processes elsewhere need a copy of it.
    ///
    /// # Errors
    ///
    /// When there is no usable key.
    pub fn open(config: &Config) -> Result<Self, VaultError> {
        if let Some(key) = &config.security.encryption_key {
            return Self::with_key(key);
        }
        if let Some(path) = &config.security.encryption_key_file {
            if !path.exists() {
                return Err(VaultError::Missing(path.clone()));
            }
            return Self::from_file(path);
        }
        let database = sqlite_file(config.database.url.expose_secret()).unwrap_or_else(|| PathBuf::from(NAME));
        Self::from_file(&database.with_extension("key"))
    }

    /// A vault with a key in base64.
    ///
    /// # Errors
    ///
    /// When it is no such key.
    pub fn with_key(key: &SecretString) -> Result<Self, VaultError> {
        let bytes = STANDARD
            .decode(key.expose_secret().trim())
            .or_else(|_| URL_SAFE_NO_PAD.decode(key.expose_secret().trim()))
            .map_err(|_| VaultError::Key)?;
        let key = Key::try_from(bytes.as_slice()).map_err(|_| VaultError::Key)?;
        let digest = Sha256::new_with_prefix(b"espo-outlook key id").chain_update(key).finalize();
        let key_id = hex::encode(digest).chars().take(8).collect();
        Ok(Self { cipher: Arc::new(XChaCha20Poly1305::new(&key)), key_id })
    }

    fn from_file(path: &Path) -> Result<Self, VaultError> {
        let failed = |source| VaultError::File { path: path.to_owned(), source };
        match create_key_file(path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "generated an encryption key; keep a copy of it with the backups")
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::with_key(&SecretString::from(text))
    }

    /// Seals a secret for a purpose.
    ///
    /// # Errors
    ///
    /// When the cipher refuses, which it does not.
    pub fn seal(&self, purpose: &str, secret: &str) -> Result<String, VaultError> {
        let nonce = XNonce::generate();
        let payload = Payload { msg: secret.as_bytes(), aad: purpose.as_bytes() };
        let sealed = self.cipher.encrypt(&nonce, payload).map_err(|_| VaultError::Seal)?;
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed);
        Ok(format!("1.{}.{}", self.key_id, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Opens what was sealed for that purpose.
    ///
    /// # Errors
    ///
    /// When it was sealed with another key or for another purpose, or was changed.
    pub fn open_secret(&self, purpose: &str, sealed: &str) -> Result<SecretString, VaultError> {
        let text = sealed.strip_prefix("1.").and_then(|rest| rest.split_once('.')).ok_or(VaultError::Sealed)?;
        let (key_id, text) = text;
        if key_id != self.key_id {
            return Err(VaultError::Sealed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| VaultError::Sealed)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE).ok_or(VaultError::Sealed)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| VaultError::Sealed)?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        let secret = self.cipher.decrypt(&nonce, payload).map_err(|_| VaultError::Sealed)?;
        String::from_utf8(secret).map(SecretString::from).map_err(|_| VaultError::Sealed)
    }
}

/// A hash that may lie in the database where only "is it the same?" is ever asked: tickets, states, cookies, and the
/// `clientState` of Graph subscriptions. All of them are long and random, so a plain SHA-256 is enough.
#[must_use]
pub fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// Whether a secret is the one with that hash; takes the same time however many characters agree.
#[must_use]
pub fn matches_digest(secret: &str, expected: &str) -> bool {
    bool::from(subtle::ConstantTimeEq::ct_eq(digest(secret).as_bytes(), expected.as_bytes()))
}

/// The file of an SQLite address.
#[must_use]
pub fn sqlite_file(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest).split('?').next()?;
    if path.is_empty() || path == ":memory:" { None } else { Some(PathBuf::from(path)) }
}

fn create_key_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{}", STANDARD.encode(Key::generate()))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(byte: u8) -> Vault {
        Vault::with_key(&SecretString::from(STANDARD.encode([byte; 32]))).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_again_and_never_looks_the_same() {
        let vault = vault(1);
        let sealed = vault.seal("token:u1", "hush").unwrap();
        assert!(!sealed.contains("hush"));
        assert_ne!(sealed, vault.seal("token:u1", "hush").unwrap());
        assert_eq!(vault.open_secret("token:u1", &sealed).unwrap().expose_secret(), "hush");
    }

    #[test]
    fn another_purpose_another_key_and_a_changed_text_are_refused() {
        let sealed = vault(1).seal("token:u1", "hush").unwrap();
        assert!(vault(1).open_secret("token:u2", &sealed).is_err());
        assert!(vault(2).open_secret("token:u1", &sealed).is_err());
        let mut changed = sealed.clone();
        let last = changed.pop().unwrap();
        changed.push(if last == 'A' { 'Q' } else { 'A' });
        assert!(vault(1).open_secret("token:u1", &changed).is_err());
        for text in ["", "1.", "1.x", "2.00000000.AAAA", &sealed[..20]] {
            assert!(vault(1).open_secret("token:u1", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert!(Vault::with_key(&SecretString::from(STANDARD.encode([1; 31]))).is_err());
        assert!(Vault::with_key(&SecretString::from("not base64!")).is_err());
    }

    #[test]
    fn the_key_is_generated_once_beside_the_database_and_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.database.url = SecretString::from(format!("sqlite://{}/x.db?mode=rwc", dir.path().display()));
        let sealed = Vault::open(&config).unwrap().seal("p", "hush").unwrap();
        assert!(Vault::open(&config).unwrap().open_secret("p", &sealed).is_ok());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(dir.path().join("x.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_named_key_file_is_never_generated() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.security.encryption_key_file = Some(dir.path().join("missing.key"));
        assert!(matches!(Vault::open(&config), Err(VaultError::Missing(_))));
    }
}
