//! Attachments in canonical form: which files an end has, told by name and content, never the content itself.
//!
//! A file is its name and the hash of its content: the same file twice counts once, two different files of one name are two,
//! and a file whose content was replaced is one that went and one that came. So files are merged one by one, like people, and
//! nobody's file is lost to a conflict: history could not give it back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The largest file that travels: more than 25 MB a To Do task does not take
/// (learn.microsoft.com/graph/todo-attachments).
pub const LARGEST_FILE: u64 = 25 * 1024 * 1024;

/// One file. The ids are those of the end that was looked at, and do not count when two files are compared.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name.
    pub name: String,
    /// SHA-256 of its content, in hex.
    pub hash: String,
    /// Its size in bytes.
    pub size: u64,
    /// The ids that it has there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ids: BTreeSet<String>,
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.hash == other.hash
    }
}

/// A file that does not travel: its content is not even looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Its size in bytes, as far as it is known.
    pub size: u64,
}

impl LeftOut {
    /// True when its size is the reason.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        self.size > LARGEST_FILE
    }
}

/// The files of one end. What is left out does not count when two ends are compared.
#[derive(Debug, Clone, Default, Eq, Serialize, Deserialize)]
pub struct Files {
    files: BTreeMap<String, File>,
    /// What does not travel, by its id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, LeftOut>,
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl FromIterator<File> for Files {
    fn from_iter<T: IntoIterator<Item = File>>(files: T) -> Self {
        let mut all = Self::default();
        files.into_iter().for_each(|file| all.insert(file));
        all
    }
}

impl Files {
    /// Adds a file; one that is there already gets its ids.
    pub fn insert(&mut self, file: File) {
        let ids = file.ids.clone();
        self.files.entry(key(&file)).or_insert(file).ids.extend(ids);
    }

    /// Takes away the file of the same name and content.
    pub fn remove(&mut self, file: &File) {
        self.files.remove(&key(file));
    }

    /// The files, those that are left out apart.
    pub fn iter(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    /// True when there is no file but those that are left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The file of the same name and content.
    #[must_use]
    pub fn get(&self, file: &File) -> Option<&File> {
        self.files.get(&key(file))
    }

    /// Some id of a content.
    #[must_use]
    pub fn id_of(&self, hash: &str) -> Option<&str> {
        self.iter().find(|file| file.hash == hash)?.ids.first().map(String::as_str)
    }

    /// What tells the files apart that one of the two has and the other has not.
    #[must_use]
    pub fn difference(&self, other: &Self) -> BTreeSet<String> {
        self.without(other).chain(other.without(self)).map(key).collect()
    }

    /// The files that `other` has not.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a File> {
        self.iter().filter(|file| other.get(file).is_none())
    }

    /// The names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.iter().map(|file| file.name.clone()).collect();
        names.sort();
        names
    }

    /// Which file each id is, for a later look that need not read it again.
    #[must_use]
    pub fn known(&self) -> BTreeMap<String, Known> {
        let of_file = |file: &File| {
            let known = Known { hash: Some(file.hash.clone()), size: file.size };
            file.ids.iter().map(|id| (id.clone(), known.clone())).collect::<Vec<_>>()
        };
        let left_out = |(id, file): (&String, &LeftOut)| (id.clone(), Known { hash: None, size: file.size });
        self.iter().flat_map(of_file).chain(self.left_out.iter().map(left_out)).collect()
    }

    /// The same files of no end in particular.
    #[must_use]
    pub fn plain(&self) -> Self {
        self.iter().map(|file| File { ids: BTreeSet::new(), ..file.clone() }).collect()
    }
}

/// What is remembered of a remote id: contents never change under one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// SHA-256 of the content; none for what is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Size in bytes.
    pub size: u64,
}

fn key(file: &File) -> String {
    format!("{} {}", file.hash, file.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, hash: &str, id: &str) -> File {
        File { name: name.into(), hash: hash.into(), size: 1, ids: BTreeSet::from([id.to_owned()]) }
    }

    #[test]
    fn the_same_file_twice_is_one_and_two_files_of_one_name_are_two() {
        let files: Files = [file("a", "1", "x"), file("a", "1", "y"), file("a", "2", "z")].into_iter().collect();
        assert_eq!(files.names(), ["a", "a"]);
        assert_eq!(files.known().len(), 3);
        assert_eq!(files, [file("a", "2", "q"), file("a", "1", "r")].into_iter().collect(), "ids do not count");
    }

    #[test]
    fn what_is_left_out_does_not_count_but_is_remembered() {
        let mut files: Files = [file("a", "1", "x")].into_iter().collect();
        files.left_out.insert("big".into(), LeftOut { name: "b".into(), size: LARGEST_FILE + 1 });
        assert_eq!(files, [file("a", "1", "y")].into_iter().collect());
        assert_eq!(files.known()["big"].hash, None);
        assert!(files.left_out["big"].is_too_large());
    }
}
