//! The vault: secrets are sealed before they reach the database.
//!
//! A sealed text is `1.<key id>.<base64url of nonce and ciphertext>`, XChaCha20-Poly1305 with a random 192-bit nonce (long
//! enough to be drawn at random for ever). The purpose is authenticated data: a secret that was sealed as one thing cannot
//! be opened as another, so rows cannot be swapped.
//!
//! # Several keys
//! The first key seals; all of them open. A file holds one key a line, the newest first: [`Vault::renew`] puts a new one there
//! before anything is sealed with it, and a process that meets a key id that it does not know, or a changed file, reads the
//! file again. So a running service takes over a new key by itself, and what it sealed in between can still be opened.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

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

/// Seals and opens secrets. Clones share their keys.
#[derive(Clone)]
pub struct Vault {
    keys: Arc<RwLock<Keys>>,
    file: Option<PathBuf>,
}

/// The keys, the one that seals first, and the state of the file from which they are.
#[derive(Clone)]
struct Keys {
    all: Vec<Keyed>,
    stamp: Option<Stamp>,
}

/// What tells one writing of a file from the next. The time alone does not: it moves in steps of some milliseconds, in which
/// a file can be written twice. A new file in its place has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    written: Option<SystemTime>,
    len: u64,
    number: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&found);
        #[cfg(not(unix))]
        let number = 0;
        Some(Self { written: found.modified().ok(), len: found.len(), number })
    }
}

#[derive(Clone)]
struct Keyed {
    id: String,
    cipher: XChaCha20Poly1305,
}

impl Keyed {
    fn parse(text: &str) -> Result<Self, VaultError> {
        let text = text.trim();
        let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).map_err(|_| VaultError::Key)?;
        let key = Key::try_from(bytes.as_slice()).map_err(|_| VaultError::Key)?;
        let digest = Sha256::new_with_prefix(b"espo-outlook key id").chain_update(key).finalize();
        let id = hex::encode(digest).chars().take(8).collect();
        Ok(Self { id, cipher: XChaCha20Poly1305::new(&key) })
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("key_id", &self.key_id()).finish_non_exhaustive()
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
    /// There is no file to put a new key into.
    #[error(
        "the encryption key is given by security.encryption_key: put a new one there (`openssl rand -base64 32`) and the old one into security.previous_encryption_keys, restart the service, and run this again"
    )]
    Configured,
}

impl VaultError {
    fn file(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path: path.clone(), source }
    }
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
            let previous = config.security.previous_encryption_keys.iter();
            let all = std::iter::once(key).chain(previous).map(|key| Keyed::parse(key.expose_secret()));
            let keys = Keys { all: all.collect::<Result<_, _>>()?, stamp: None };
            return Ok(Self { keys: Arc::new(RwLock::new(keys)), file: None });
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
        let keys = Keys { all: vec![Keyed::parse(key.expose_secret())?], stamp: None };
        Ok(Self { keys: Arc::new(RwLock::new(keys)), file: None })
    }

    fn from_file(path: &Path) -> Result<Self, VaultError> {
        match create_key_file(path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "generated an encryption key; keep a copy of it with the backups")
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(VaultError::file(path)(error)),
        }
        Ok(Self { keys: Arc::new(RwLock::new(read_keys(path)?)), file: Some(path.to_owned()) })
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn key_id(&self) -> String {
        self.keys().all.first().map(|key| key.id.clone()).unwrap_or_default()
    }

    /// The file of the keys, unless they are given in the configuration.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn keys(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again, when it was written since.
    fn follow(&self) {
        let Some(path) = &self.file else { return };
        if Stamp::of(path) == self.keys().stamp {
            return;
        }
        match read_keys(path) {
            Ok(fresh) => {
                tracing::info!(path = %path.display(), "the encryption keys are read again");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            }
            Err(error) => tracing::error!(%error, "the encryption keys cannot be read again; the known ones stay"),
        }
    }

    /// Puts a new key before the others of the file; those whose ids are not in `needed` are dropped from it. From then on
    /// everything is sealed with the new key. Gives its id.
    ///
    /// # Errors
    ///
    /// When the keys are given in the configuration, or the file cannot be written.
    pub fn renew(&self, needed: &[String]) -> Result<String, VaultError> {
        let path = self.file.as_deref().ok_or(VaultError::Configured)?;
        let text = std::fs::read_to_string(path).map_err(VaultError::file(path))?;
        let is_needed = |line: &&str| Keyed::parse(line).is_ok_and(|key| needed.contains(&key.id));
        let lines = std::iter::once(STANDARD.encode(Key::generate()))
            .chain(text.lines().filter(is_needed).map(str::to_owned))
            .collect::<Vec<_>>();
        replace_file(path, &format!("{}\n", lines.join("\n"))).map_err(VaultError::file(path))?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = read_keys(path)?;
        Ok(self.key_id())
    }

    /// Seals a secret for a purpose.
    ///
    /// # Errors
    ///
    /// When the cipher refuses, which it does not.
    pub fn seal(&self, purpose: &str, secret: &str) -> Result<String, VaultError> {
        self.follow();
        let key = self.keys().all.into_iter().next().ok_or(VaultError::Key)?;
        let nonce = XNonce::generate();
        let payload = Payload { msg: secret.as_bytes(), aad: purpose.as_bytes() };
        let sealed = key.cipher.encrypt(&nonce, payload).map_err(|_| VaultError::Seal)?;
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed);
        Ok(format!("1.{}.{}", key.id, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Opens what was sealed for that purpose.
    ///
    /// # Errors
    ///
    /// When it was sealed with another key or for another purpose, or was changed.
    pub fn open_secret(&self, purpose: &str, sealed: &str) -> Result<SecretString, VaultError> {
        let (id, text) = parts(sealed).ok_or(VaultError::Sealed)?;
        let key = match self.key(id) {
            Some(key) => key,
            None => {
                self.follow();
                self.key(id).ok_or(VaultError::Sealed)?
            }
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| VaultError::Sealed)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE).ok_or(VaultError::Sealed)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| VaultError::Sealed)?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        let secret = key.cipher.decrypt(&nonce, payload).map_err(|_| VaultError::Sealed)?;
        String::from_utf8(secret).map(SecretString::from).map_err(|_| VaultError::Sealed)
    }

    fn key(&self, id: &str) -> Option<Keyed> {
        self.keys().all.into_iter().find(|key| key.id == id)
    }
}

fn parts(sealed: &str) -> Option<(&str, &str)> {
    sealed.strip_prefix("1.")?.split_once('.')
}

/// The id of the key with which a text was sealed.
#[must_use]
pub fn key_id(sealed: &str) -> Option<&str> {
    parts(sealed).map(|(id, _)| id)
}

fn read_keys(path: &Path) -> Result<Keys, VaultError> {
    let failed = VaultError::file(path);
    // The stamp first: what is written in between is read again.
    let stamp = Stamp::of(path);
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let all = lines.map(Keyed::parse).collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() { Err(VaultError::Key) } else { Ok(Keys { all, stamp }) }
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

/// Writes another file and puts it in the place of this one, so that nobody ever reads half a file.
fn replace_file(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("key.new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
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

    #[test]
    fn a_process_takes_over_a_key_that_another_one_has_put_into_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.database.url = SecretString::from(format!("sqlite://{}/x.db?mode=rwc", dir.path().display()));
        let (running, command) = (Vault::open(&config).unwrap(), Vault::open(&config).unwrap());
        let before = running.seal("p", "old").unwrap();
        let old = running.key_id();
        let new = command.renew(std::slice::from_ref(&old)).unwrap();
        assert_ne!(old, new);
        let after = command.seal("p", "new").unwrap();
        assert_eq!(key_id(&after), Some(new.as_str()));
        assert_eq!(running.open_secret("p", &after).unwrap().expose_secret(), "new");
        assert_eq!(running.open_secret("p", &before).unwrap().expose_secret(), "old");
        assert_eq!(key_id(&running.seal("p", "x").unwrap()), Some(new.as_str()));
        let last = command.renew(&[new]).unwrap();
        assert!(command.open_secret("p", &before).is_err(), "a key that nothing needs is still there");
        assert_eq!(Vault::open(&config).unwrap().key_id(), last);
    }

    #[test]
    fn a_key_of_the_configuration_is_not_renewed_and_previous_ones_still_open() {
        let text = |byte: u8| SecretString::from(STANDARD.encode([byte; 32]));
        let mut config = Config::defaults().unwrap();
        config.security.encryption_key = Some(text(2));
        config.security.previous_encryption_keys = vec![text(1)];
        let vault = Vault::open(&config).unwrap();
        let old = Vault::with_key(&text(1)).unwrap().seal("p", "hush").unwrap();
        assert_eq!(vault.open_secret("p", &old).unwrap().expose_secret(), "hush");
        assert!(matches!(vault.renew(&[]), Err(VaultError::Configured)));
    }
}
