//! The first schema.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

use crate::columns::table;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        for create in
            preferences(backend).into_iter().chain(content(backend)).chain(work(backend)).chain(outside(backend))
        {
            manager.create_table(create).await?;
        }
        for (name, table, columns, unique) in INDEXES {
            if manager.has_index(*table, *name).await? {
                continue;
            }
            let mut create = Index::create();
            create.name(*name).table(*table);
            for column in *columns {
                create.col(*column);
            }
            if *unique {
                create.unique();
            }
            manager.create_index(create).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in TABLES {
            manager.drop_table(Table::drop().table(*name).if_exists().take()).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

const TABLES: &[&str] = &[
    "settings",
    "rules",
    "roles",
    "bindings",
    "tokens",
    "sign_ins",
    "links",
    "replicas",
    "switches",
    "history",
    "messages",
    "leases",
    "cursors",
    "jobs",
    "holds",
    "subscriptions",
    "espo_webhooks",
];

/// Name, table, columns, whether unique.
const INDEXES: &[(&str, &str, &[&str], bool)] = &[
    ("bindings_mailbox", "bindings", &["mailbox"], false),
    ("bindings_graph_user", "bindings", &["graph_user_id"], false),
    ("sign_ins_expires", "sign_ins", &["expires"], false),
    // All three databases let any number of rows without a record pass a unique index.
    ("links_record", "links", &["kind", "record_id"], true),
    ("links_owner", "links", &["owner", "state", "id"], false),
    ("links_state", "links", &["state", "since"], false),
    ("links_ical_uid", "links", &["ical_uid"], false),
    ("links_fingerprint", "links", &["fingerprint"], false),
    ("links_occurrence", "links", &["series", "original_start"], false),
    ("links_start", "links", &["kind", "starts_at", "id"], false),
    ("replicas_link", "replicas", &["link_id"], false),
    ("history_at", "history", &["at", "id"], false),
    ("history_record", "history", &["record_id", "at"], false),
    ("history_user", "history", &["user_id", "at"], false),
    ("messages_turn", "messages", &["state", "lane", "due", "id"], false),
    ("messages_due", "messages", &["state", "due"], false),
    ("messages_state", "messages", &["state", "received", "id"], false),
    // With `received`, or SQLite would rather walk through all that is parked to find what is superseded.
    ("messages_target", "messages", &["target_key", "state", "received"], false),
    ("messages_received", "messages", &["received", "id"], false),
    ("jobs_requested", "jobs", &["requested"], false),
    ("holds_state", "holds", &["state", "created"], false),
    ("subscriptions_user", "subscriptions", &["user_id"], false),
];

fn preferences(backend: DbBackend) -> Vec<TableCreateStatement> {
    vec![
        table("settings", backend).word("name", 128).text("value").flag("sealed").number("updated").key(&["name"]),
        table("rules", backend).word("scope", 128).text("patch").number("updated").key(&["scope"]),
        table("roles", backend).id("role_id").text("document").number("updated").key(&["role_id"]),
        table("bindings", backend)
            .id("user_id")
            .word("user_name", 255)
            .maybe_word("email", 320)
            .flag("enabled")
            .maybe_word("mailbox", 320)
            .maybe_word("graph_user_id", 128)
            .maybe_word("zone", 128)
            .word("sync_from", 16)
            .maybe_text("todo_list")
            .word("state", 32)
            .text("reason")
            .maybe_number("next_try")
            .maybe_number("last_sync")
            .flag("first_sync_done")
            .number("created")
            .number("updated")
            .key(&["user_id"]),
        table("tokens", backend)
            .id("user_id")
            .text("access")
            .maybe_text("refresh")
            .number("expires")
            .number("version")
            .number("updated")
            .key(&["user_id"]),
        table("sign_ins", backend)
            .word("id", 128)
            .word("purpose", 16)
            .id("user_id")
            .maybe_text("verifier")
            .maybe_word("cookie_hash", 128)
            .number("created")
            .number("expires")
            .key(&["id"]),
    ]
}

fn content(backend: DbBackend) -> Vec<TableCreateStatement> {
    vec![
        table("links", backend)
            .id("id")
            .word("kind", 16)
            .maybe_id("record_id")
            .id("owner")
            .word("state", 32)
            .maybe_number("since")
            .maybe_word("ical_uid", 255)
            .word("fingerprint", 128)
            .maybe_word("series", 255)
            .maybe_number("original_start")
            .maybe_number("starts_at")
            .text("document")
            .number("updated")
            .key(&["id"]),
        table("replicas", backend)
            .id("user_id")
            .word("item_id", 512)
            .id("link_id")
            .maybe_text("list_id")
            .word("role", 16)
            .maybe_text("etag")
            .key(&["user_id", "item_id"]),
        table("switches", backend)
            .word("kind", 16)
            .id("record_id")
            .flag("enabled")
            .number("updated")
            .key(&["kind", "record_id"]),
        table("history", backend)
            .id("id")
            .number("at")
            .word("cause", 32)
            .word("direction", 16)
            .word("kind", 16)
            .word("change_type", 16)
            .maybe_id("user_id")
            .maybe_id("link_id")
            .maybe_id("record_id")
            .maybe_word("item_id", 512)
            .text("changes")
            .maybe_id("reverted_by")
            .maybe_id("revert_of")
            .key(&["id"]),
    ]
}

fn work(backend: DbBackend) -> Vec<TableCreateStatement> {
    vec![
        table("messages", backend)
            .id("id")
            .number("received")
            .word("source", 32)
            .word("lane", 128)
            .word("target_key", 64)
            .text("change")
            .word("state", 16)
            .small("attempts")
            .number("due")
            .maybe_number("lease_until")
            .maybe_word("leased_by", 128)
            .maybe_text("last_error")
            .maybe_number("finished")
            .maybe_id("replay_of")
            .maybe_text("excerpt")
            .key(&["id"]),
        table("leases", backend).word("name", 255).word("holder", 128).number("fence").number("until").key(&["name"]),
        table("cursors", backend).word("name", 255).text("value").number("updated").key(&["name"]),
        table("jobs", backend)
            .id("id")
            .word("state", 16)
            .text("request")
            .number("total")
            .flag("total_known")
            .number("done")
            .number("created")
            .number("updated")
            .number("deleted")
            .number("skipped")
            .number("failed")
            .maybe_text("preview")
            .maybe_text("error")
            .number("requested")
            .maybe_number("started")
            .maybe_number("finished")
            .key(&["id"]),
        table("holds", backend)
            .id("id")
            .word("kind", 32)
            .id("user_id")
            .word("state", 16)
            .number("created")
            .text("summary")
            .maybe_number("decided")
            .maybe_word("decided_by", 255)
            .key(&["id"]),
    ]
}

fn outside(backend: DbBackend) -> Vec<TableCreateStatement> {
    vec![
        table("subscriptions", backend)
            .word("id", 128)
            .id("user_id")
            .text("resource")
            .maybe_text("list_id")
            .text("client_state")
            .word("state", 16)
            .maybe_text("error")
            .number("created")
            .number("expires")
            .number("renew_at")
            .key(&["id"]),
        table("espo_webhooks", backend).id("id").word("event", 128).text("secret").number("created").key(&["id"]),
    ]
}
