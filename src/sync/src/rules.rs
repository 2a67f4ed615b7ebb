//! What administrators and users decide: directions, priorities, and what becomes of people, private events and the like.
//!
//! [`Rules`] are effective rules. They are made by laying patches over the defaults: the organisation's first, the user's
//! over it ([`RulesPatch::over`]). A patch with an unknown key is refused by serde.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Kind, Side};

/// Which way changes of a kind travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Hands off.
    Disabled,
    /// EspoCRM is copied to Outlook.
    EspoToOutlook,
    /// Outlook is copied to EspoCRM.
    OutlookToEspo,
    /// Both ways.
    Both,
}

impl Direction {
    /// May a change be written to that side?
    #[must_use]
    pub const fn allows_to(self, target: Side) -> bool {
        match self {
            Self::Disabled => false,
            Self::Both => true,
            Self::EspoToOutlook => matches!(target, Side::Outlook),
            Self::OutlookToEspo => matches!(target, Side::Espo),
        }
    }
}

/// Who wins when both sides have changed the same field to different values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// EspoCRM.
    Espo,
    /// Outlook.
    Outlook,
    /// The end that was modified last; a tie goes to EspoCRM.
    Newest,
}

/// Rules of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindRules {
    /// Which way.
    pub direction: Direction,
    /// Who wins.
    pub priority: Priority,
}

/// What an unknown participant becomes in EspoCRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateParticipantAs {
    /// A Lead.
    Lead,
    /// A Contact.
    Contact,
    /// Nothing: left out, and the record's page says so.
    None,
}

/// Whether participants are written to Outlook as attendees (Exchange then mails them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attendees {
    /// As attendees: Exchange sends invitations.
    Invite,
    /// Never: nobody gets mail.
    None,
}

/// What becomes of private and confidential events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrivateEvents {
    /// Not copied.
    None,
    /// Times only, title "Private".
    Busy,
    /// Copied like any other.
    Full,
}

/// What `Not Held` does in Outlook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotHeld {
    /// Nothing.
    Keep,
    /// The event is cancelled.
    Cancel,
}

/// What a meeting cancelled by its outside organizer becomes in EspoCRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// Status `Not Held`.
    NotHeld,
    /// The record is deleted.
    Delete,
}

/// Which kind a new Outlook event without the Call category becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewEvents {
    /// A Meeting.
    Meeting,
    /// A Call (an all-day event still becomes a Meeting).
    Call,
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+) => {
        /// Effective rules of one user.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Rules {
            /// Meetings.
            pub meeting: KindRules,
            /// Calls.
            pub call: KindRules,
            /// Tasks.
            pub task: KindRules,
            /// Directions of configured pairs: they are the operator's, and no rule.
            #[serde(skip)]
            pub fields: crate::Directions,
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        /// Some rules, laid over others: the organisation's over the defaults, a user's over the organisation's.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct RulesPatch {
            /// Meetings.
            #[serde(default, deserialize_with = "object", skip_serializing_if = "Option::is_none")]
            pub meeting: Option<KindPatch>,
            /// Calls.
            #[serde(default, deserialize_with = "object", skip_serializing_if = "Option::is_none")]
            pub call: Option<KindPatch>,
            /// Tasks.
            #[serde(default, deserialize_with = "object", skip_serializing_if = "Option::is_none")]
            pub task: Option<KindPatch>,
            $($(#[doc = $doc])+ #[serde(default, skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)+
        }

        impl Default for Rules {
            fn default() -> Self {
                let kind = KindRules { direction: Direction::Both, priority: Priority::Newest };
                Self { meeting: kind, call: kind, task: kind, fields: crate::Directions::default(), $($name: $default,)+ }
            }
        }

        impl RulesPatch {
            /// The rules with this patch laid over them.
            #[must_use]
            pub fn over(&self, below: &Rules) -> Rules {
                Rules {
                    meeting: KindPatch::over(self.meeting, below.meeting),
                    call: KindPatch::over(self.call, below.call),
                    task: KindPatch::over(self.task, below.task),
                    fields: below.fields.clone(),
                    $($name: self.$name.clone().unwrap_or_else(|| below.$name.clone()),)+
                }
            }

            /// This patch with a newer one merged in: keys that the newer one leaves out keep their value.
            #[must_use]
            pub fn merged(&self, newer: &Self) -> Self {
                Self {
                    meeting: KindPatch::merged(self.meeting, newer.meeting),
                    call: KindPatch::merged(self.call, newer.call),
                    task: KindPatch::merged(self.task, newer.task),
                    $($name: newer.$name.clone().or_else(|| self.$name.clone()),)+
                }
            }
        }
    };
}

rules! {
    /// What an unknown participant becomes.
    create_participant_as: CreateParticipantAs = CreateParticipantAs::Lead;
    /// Whether people are invited through Outlook.
    attendees: Attendees = Attendees::Invite;
    /// What becomes of private events.
    private_events: PrivateEvents = PrivateEvents::None;
    /// The Outlook category that makes an event a Call.
    call_category: String = "Call".to_owned();
    /// What a new event without that category becomes.
    new_events: NewEvents = NewEvents::Meeting;
    /// What `Not Held` does in Outlook.
    not_held: NotHeld = NotHeld::Keep;
    /// What a cancellation by an outside organizer does in EspoCRM.
    cancelled: Cancelled = Cancelled::NotHeld;
    /// Whether reminders are synchronised.
    reminders: bool = true;
    /// Mail domains whose unknown people are never made into leads or contacts.
    own_domains: Vec<String> = Vec::new();
}

/// Rules of one kind, in part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindPatch {
    /// Which way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Who wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

/// Only an object: serde would read a struct from an array as well, past the check for unknown keys.
fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<KindPatch>, D::Error> {
    struct Only;
    impl<'de> Visitor<'de> for Only {
        type Value = Option<KindPatch>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with direction and priority")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            KindPatch::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
    deserializer.deserialize_option(Only)
}

impl KindPatch {
    fn over(patch: Option<Self>, below: KindRules) -> KindRules {
        let patch = patch.unwrap_or_default();
        KindRules {
            direction: patch.direction.unwrap_or(below.direction),
            priority: patch.priority.unwrap_or(below.priority),
        }
    }

    fn merged(older: Option<Self>, newer: Option<Self>) -> Option<Self> {
        match (older, newer) {
            (Some(older), Some(newer)) => Some(Self {
                direction: newer.direction.or(older.direction),
                priority: newer.priority.or(older.priority),
            }),
            (older, newer) => newer.or(older),
        }
    }
}

impl Rules {
    /// The rules of a kind.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> KindRules {
        match kind {
            Kind::Meeting => self.meeting,
            Kind::Call => self.call,
            Kind::Task => self.task,
        }
    }
}
