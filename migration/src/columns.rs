//! Columns and tables that mean the same on SQLite, PostgreSQL and MySQL.
//!
//! Two things differ and are settled here. MySQL's `TEXT` ends at 64 KiB, so long texts are `LONGTEXT` there. And MySQL
//! compares text without regard to case unless told otherwise, while Graph's ids differ in case alone (Microsoft Graph,
//! "Immutable identifiers": ids are case-sensitive), so tables are collated by bytes. So are the words of PostgreSQL, whose
//! databases sort as the locale of their server does: pages and turns go by the order of ids.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// The longest of our ids, and of EspoCRM's.
const ID: u32 = 64;

/// A table under construction.
pub struct TableDraft {
    create: TableCreateStatement,
    backend: DbBackend,
}

/// Begins a table.
pub fn table(name: &'static str, backend: DbBackend) -> TableDraft {
    let mut create = Table::create();
    create.table(name).if_not_exists();
    if backend == DbBackend::MySql {
        create.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
    }
    TableDraft { create, backend }
}

impl TableDraft {
    fn push(mut self, mut column: ColumnDef, required: bool) -> Self {
        if required {
            column.not_null();
        } else {
            column.null();
        }
        self.create.col(column);
        self
    }

    /// An id of ours or EspoCRM's.
    pub fn id(self, name: &'static str) -> Self {
        self.word(name, ID)
    }

    /// The same, where there may be none.
    pub fn maybe_id(self, name: &'static str) -> Self {
        self.maybe_word(name, ID)
    }

    /// A text of limited length, which an index can hold.
    pub fn word(self, name: &'static str, length: u32) -> Self {
        let column = self.word_column(name, length);
        self.push(column, true)
    }

    /// The same, where there may be none.
    pub fn maybe_word(self, name: &'static str, length: u32) -> Self {
        let column = self.word_column(name, length);
        self.push(column, false)
    }

    fn word_column(&self, name: &'static str, length: u32) -> ColumnDef {
        let mut column = ColumnDef::new(name).string_len(length).take();
        if self.backend == DbBackend::Postgres {
            column.extra("COLLATE \"C\"");
        }
        column
    }

    fn text_column(&self, name: &'static str) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        if self.backend == DbBackend::MySql { column.custom("longtext") } else { column.text() }.take()
    }

    /// A text of any length.
    pub fn text(self, name: &'static str) -> Self {
        let column = self.text_column(name);
        self.push(column, true)
    }

    /// The same, where there may be none.
    pub fn maybe_text(self, name: &'static str) -> Self {
        let column = self.text_column(name);
        self.push(column, false)
    }

    /// A moment in milliseconds, a counter or a version.
    pub fn number(self, name: &'static str) -> Self {
        self.push(ColumnDef::new(name).big_integer().take(), true)
    }

    /// The same, where there may be none.
    pub fn maybe_number(self, name: &'static str) -> Self {
        self.push(ColumnDef::new(name).big_integer().take(), false)
    }

    /// A small number.
    pub fn small(self, name: &'static str) -> Self {
        self.push(ColumnDef::new(name).integer().take(), true)
    }

    /// The same, where there may be none.
    pub fn maybe_small(self, name: &'static str) -> Self {
        self.push(ColumnDef::new(name).integer().take(), false)
    }

    /// A yes or no.
    pub fn flag(self, name: &'static str) -> Self {
        self.push(ColumnDef::new(name).boolean().take(), true)
    }

    /// A number that grows from row to row, which is the primary key. On SQLite it is the number of the row itself, so that
    /// nothing is written beside the row; there the numbers of rows that are gone may come again.
    pub fn serial(mut self, name: &'static str) -> Self {
        let mut column = ColumnDef::new(name);
        if self.backend == DbBackend::Sqlite {
            column.integer();
        } else {
            column.big_integer().auto_increment();
        }
        self.create.col(column.not_null().primary_key());
        self
    }

    /// The finished statement of a table whose key is among its columns.
    pub fn keyed(self) -> TableCreateStatement {
        self.create
    }

    /// The primary key, and the finished statement.
    pub fn key(mut self, columns: &[&'static str]) -> TableCreateStatement {
        let mut key = Index::create();
        for column in columns {
            key.col(*column);
        }
        self.create.primary_key(&mut key);
        self.create
    }
}
