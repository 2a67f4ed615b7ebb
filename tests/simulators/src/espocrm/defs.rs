//! What EspoCRM 9.3.10 knows of its entities: attributes of a single read, options, limits, what every list row brings.
//! Facts: `Resources/metadata/entityDefs` of the core and of the Crm module, and answers of a running 9.3.10.

pub(super) const WHO: &[&str] = &[
    "createdById",
    "createdByName",
    "modifiedById",
    "modifiedByName",
    "assignedUserId",
    "assignedUserName",
    "teamsIds",
    "teamsNames",
];
const FOLLOW: &[&str] = &["isFollowed", "followersIds", "followersNames"];
pub(super) const PEOPLE: &[&str] = &[
    "usersIds",
    "usersNames",
    "usersColumns",
    "contactsIds",
    "contactsNames",
    "contactsColumns",
    "leadsIds",
    "leadsNames",
    "leadsColumns",
];
const PARENT: &[&str] = &["parentId", "parentType", "parentName", "accountId", "accountName"];
const PERSON: &[&str] = &[
    "salutationName",
    "firstName",
    "lastName",
    "title",
    "description",
    "emailAddress",
    "phoneNumber",
    "doNotCall",
    "addressStreet",
    "addressCity",
    "addressState",
    "addressCountry",
    "addressPostalCode",
];
const MAIL_FLAGS: &[&str] =
    &["emailAddressIsOptedOut", "emailAddressIsInvalid", "phoneNumberIsOptedOut", "phoneNumberIsInvalid"];

/// One entity type.
pub(super) struct Def {
    pub name: &'static str,
    /// Attributes of a single read, in groups.
    attributes: &'static [&'static [&'static str]],
    /// Attributes that every row of a list has, whatever was selected.
    pub list_always: &'static [&'static str],
    pub order: (&'static str, Direction),
    /// Link-multiples, by the name of the link.
    pub links: &'static [&'static str],
    pub required: &'static [&'static str],
    pub defaults: &'static [(&'static str, Preset)],
    pub datetimes: &'static [&'static str],
    pub parents: &'static [&'static str],
    pub stream: bool,
    /// Default of the computed, not stored, duration.
    pub duration: Option<i64>,
    pub done: &'static [&'static str],
    /// `scopes.X.object`: webhooks may be made for it.
    pub object: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

#[derive(Clone, Copy)]
pub(super) enum Preset {
    Text(&'static str),
    Bool(bool),
    Null,
}

impl Def {
    pub fn attributes(&self) -> impl Iterator<Item = &'static str> {
        self.attributes.iter().flat_map(|group| group.iter().copied())
    }

    pub fn has(&self, attribute: &str) -> bool {
        self.attributes().any(|name| name == attribute)
    }

    pub fn is_event(&self) -> bool {
        self.duration.is_some()
    }

    /// Meeting, Call and Task have reminders.
    pub fn has_reminders(&self) -> bool {
        !self.done.is_empty()
    }

    /// dateStart or dateEnd that a date in dateStartDate or dateEndDate overrules.
    pub fn has_all_day(&self) -> bool {
        self.has("dateEndDate")
    }
}

const PARENTS: &[&str] = &["Account", "Lead", "Contact", "Opportunity", "Case"];

pub(super) static DEFS: &[Def] = &[
    Def {
        name: "Meeting",
        attributes: &[
            &[
                "id",
                "name",
                "deleted",
                "status",
                "dateStart",
                "dateEnd",
                "isAllDay",
                "duration",
                "reminders",
                "description",
                "joinUrl",
                "createdAt",
                "modifiedAt",
                "dateStartDate",
                "dateEndDate",
                "streamUpdatedAt",
            ],
            PARENT,
            PEOPLE,
            WHO,
            FOLLOW,
        ],
        list_always: &["id", "parentName", "createdById", "assignedUserId"],
        order: ("dateStart", Direction::Descending),
        links: &["users", "contacts", "leads", "teams"],
        required: &["name", "dateStart", "assignedUser"],
        defaults: &[("status", Preset::Text("Planned")), ("isAllDay", Preset::Bool(false)), ("joinUrl", Preset::Null)],
        datetimes: &["dateStart", "dateEnd"],
        parents: PARENTS,
        stream: true,
        duration: Some(3600),
        done: &["Held", "Not Held"],
        object: true,
    },
    Def {
        name: "Call",
        attributes: &[
            &[
                "id",
                "name",
                "deleted",
                "status",
                "dateStart",
                "dateEnd",
                "duration",
                "reminders",
                "direction",
                "description",
                "createdAt",
                "modifiedAt",
                "phoneNumbersMap",
            ],
            PARENT,
            PEOPLE,
            WHO,
        ],
        list_always: &["id", "parentName", "createdById", "assignedUserId"],
        order: ("dateStart", Direction::Descending),
        links: &["users", "contacts", "leads", "teams"],
        required: &["name", "dateStart", "dateEnd", "assignedUser"],
        defaults: &[("status", Preset::Text("Planned")), ("direction", Preset::Text("Outbound"))],
        datetimes: &["dateStart", "dateEnd"],
        parents: PARENTS,
        stream: false,
        duration: Some(300),
        done: &["Held", "Not Held"],
        object: true,
    },
    Def {
        name: "Task",
        attributes: &[
            &[
                "id",
                "name",
                "deleted",
                "status",
                "priority",
                "dateStart",
                "dateEnd",
                "dateStartDate",
                "dateEndDate",
                "dateCompleted",
                "reminders",
                "description",
                "createdAt",
                "modifiedAt",
                "streamUpdatedAt",
            ],
            PARENT,
            &["contactId", "contactName"],
            WHO,
            &["attachmentsIds", "attachmentsNames"],
            FOLLOW,
            &["versionNumber", "emailId", "attachmentsTypes"],
        ],
        list_always: &["id", "parentName", "createdById", "assignedUserId"],
        order: ("createdAt", Direction::Descending),
        links: &["teams", "attachments"],
        required: &["name", "assignedUser"],
        defaults: &[("status", Preset::Text("Not Started")), ("priority", Preset::Text("Normal"))],
        datetimes: &["dateStart", "dateEnd"],
        parents: PARENTS,
        stream: true,
        duration: None,
        done: &["Completed", "Canceled"],
        object: true,
    },
    Def {
        name: "Contact",
        attributes: &[
            &["id", "name", "deleted"],
            PERSON,
            &["accountIsInactive", "accountType", "createdAt", "modifiedAt", "hasPortalUser", "middleName"],
            &["targetListIsOptedOut"],
            MAIL_FLAGS,
            &[
                "streamUpdatedAt",
                "emailAddressData",
                "phoneNumberData",
                "accountId",
                "accountName",
                "accountsIds",
                "accountsNames",
                "accountsColumns",
                "campaignId",
                "campaignName",
                "portalUserId",
                "portalUserName",
                "originalLeadId",
                "originalLeadName",
            ],
            WHO,
            FOLLOW,
            &["isStarred"],
        ],
        list_always: &[
            "id",
            "accountIsInactive",
            "accountId",
            "accountName",
            "createdById",
            "assignedUserId",
            "isStarred",
        ],
        order: ("createdAt", Direction::Descending),
        links: &["teams"],
        required: &["lastName"],
        defaults: &[("doNotCall", Preset::Bool(false))],
        datetimes: &[],
        parents: &[],
        stream: true,
        duration: None,
        done: &[],
        object: true,
    },
    Def {
        name: "Lead",
        attributes: &[
            &["id", "name", "deleted", "status", "source", "industry"],
            PERSON,
            &["website", "convertedAt", "createdAt", "modifiedAt", "accountName", "middleName", "targetListIsOptedOut"],
            MAIL_FLAGS,
            &[
                "streamUpdatedAt",
                "emailAddressData",
                "phoneNumberData",
                "campaignId",
                "campaignName",
                "createdAccountId",
                "createdAccountName",
                "createdContactId",
                "createdContactName",
                "createdOpportunityId",
                "createdOpportunityName",
            ],
            WHO,
            FOLLOW,
        ],
        list_always: &["id", "phoneNumber", "accountName", "createdById", "assignedUserId"],
        order: ("createdAt", Direction::Descending),
        links: &["teams"],
        required: &["lastName"],
        defaults: &[("status", Preset::Text("New")), ("doNotCall", Preset::Bool(false))],
        datetimes: &[],
        parents: &[],
        stream: true,
        duration: None,
        done: &[],
        object: true,
    },
    Def {
        name: "Account",
        attributes: &[
            &[
                "id",
                "name",
                "deleted",
                "website",
                "emailAddress",
                "phoneNumber",
                "type",
                "industry",
                "description",
                "createdAt",
                "modifiedAt",
                "streamUpdatedAt",
                "emailAddressData",
                "phoneNumberData",
            ],
            WHO,
            FOLLOW,
            &["isStarred"],
        ],
        list_always: &["id", "createdById", "assignedUserId", "isStarred"],
        order: ("createdAt", Direction::Descending),
        links: &["teams"],
        required: &["name"],
        defaults: &[],
        datetimes: &[],
        parents: &[],
        stream: true,
        duration: None,
        done: &[],
        object: true,
    },
    Def {
        name: "User",
        attributes: &[
            &[
                "id",
                "name",
                "deleted",
                "userName",
                "type",
                "salutationName",
                "firstName",
                "lastName",
                "isActive",
                "title",
                "emailAddress",
                "phoneNumber",
                "avatarColor",
                "createdAt",
                "modifiedAt",
                "lastAccess",
                "middleName",
            ],
            MAIL_FLAGS,
            &[
                "emailAddressData",
                "phoneNumberData",
                "defaultTeamId",
                "defaultTeamName",
                "teamsIds",
                "teamsNames",
                "teamsColumns",
                "rolesIds",
                "rolesNames",
                "portalsIds",
                "portalsNames",
                "portalRolesIds",
                "portalRolesNames",
                "contactId",
                "contactName",
                "accountsIds",
                "accountsNames",
                "avatarId",
                "avatarName",
                "createdById",
                "createdByName",
                "workingTimeCalendarId",
                "workingTimeCalendarName",
            ],
        ],
        list_always: &["id", "name", "userName", "type", "isActive", "createdById"],
        order: ("userName", Direction::Ascending),
        links: &["teams", "roles"],
        required: &["userName", "lastName"],
        defaults: &[("type", Preset::Text("regular")), ("isActive", Preset::Bool(true))],
        datetimes: &[],
        parents: &[],
        stream: false,
        duration: None,
        done: &[],
        object: true,
    },
    Def {
        name: "Team",
        attributes: &[&[
            "id",
            "name",
            "deleted",
            "positionList",
            "userRole",
            "description",
            "createdAt",
            "modifiedAt",
            "layoutSetId",
            "layoutSetName",
            "workingTimeCalendarId",
            "workingTimeCalendarName",
        ]],
        list_always: &["id"],
        order: ("name", Direction::Ascending),
        links: &[],
        required: &["name"],
        defaults: &[],
        datetimes: &[],
        parents: &[],
        stream: false,
        duration: None,
        done: &[],
        object: false,
    },
    Def {
        name: "Attachment",
        attributes: &[&[
            "id",
            "name",
            "deleted",
            "type",
            "size",
            "field",
            "isBeingUploaded",
            "createdAt",
            "modifiedAt",
            "role",
            "storage",
            "storageFilePath",
            "global",
            "parentId",
            "parentType",
            "parentName",
            "relatedId",
            "relatedType",
            "relatedName",
            "sourceId",
            "createdById",
            "createdByName",
        ]],
        list_always: &["id"],
        order: ("createdAt", Direction::Descending),
        links: &[],
        required: &[],
        defaults: &[],
        datetimes: &[],
        parents: &[],
        stream: false,
        duration: None,
        done: &[],
        object: false,
    },
    Def {
        name: "Note",
        attributes: &[&[
            "id",
            "deleted",
            "post",
            "data",
            "type",
            "isInternal",
            "reactionCounts",
            "myReactions",
            "createdAt",
            "modifiedAt",
            "parentId",
            "parentType",
            "parentName",
            "relatedName",
            "attachmentsIds",
            "attachmentsNames",
            "createdById",
            "createdByName",
            "modifiedByName",
            "attachmentsTypes",
        ]],
        list_always: &["id"],
        order: ("createdAt", Direction::Descending),
        links: &[],
        required: &[],
        defaults: &[],
        datetimes: &[],
        parents: &[],
        stream: false,
        duration: None,
        done: &[],
        object: false,
    },
    Def {
        name: "Webhook",
        attributes: &[&[
            "id",
            "deleted",
            "event",
            "url",
            "isActive",
            "entityType",
            "type",
            "field",
            "secretKey",
            "skipOwn",
            "description",
            "createdAt",
            "modifiedAt",
            "createdById",
            "createdByName",
            "modifiedById",
            "modifiedByName",
        ]],
        list_always: &["id", "createdById"],
        order: ("createdAt", Direction::Descending),
        links: &[],
        required: &["event", "url"],
        defaults: &[],
        datetimes: &[],
        parents: &[],
        stream: false,
        duration: None,
        done: &[],
        object: false,
    },
];

pub(super) fn def(name: &str) -> Option<&'static Def> {
    DEFS.iter().find(|def| def.name == name)
}

/// Loaded lazily: absent from the answer of a POST while unset.
pub(super) const LAZY: &[&str] = &[
    "description",
    "dateStart",
    "dateEnd",
    "dateStartDate",
    "dateEndDate",
    "parentId",
    "parentType",
    "accountId",
    "contactId",
    "modifiedById",
    "emailId",
    "salutationName",
    "firstName",
    "title",
    "emailAddress",
    "phoneNumber",
    "addressStreet",
    "addressCity",
    "addressState",
    "addressCountry",
    "addressPostalCode",
    "accountType",
    "middleName",
    "campaignId",
    "portalUserId",
    "portalUserName",
    "originalLeadId",
    "originalLeadName",
    "assignedUserId",
    "source",
    "industry",
    "website",
    "convertedAt",
    "createdAccountId",
    "createdAccountName",
    "createdContactId",
    "createdContactName",
    "createdOpportunityId",
    "createdOpportunityName",
    "relatedId",
    "relatedType",
    "sourceId",
    "post",
];

/// Never part of a list row unless the link-multiple was selected by name.
pub(super) fn not_in_list(attribute: &str) -> bool {
    const NAMED: &[&str] =
        &["reminders", "emailAddressData", "phoneNumberData", "isFollowed", "attachmentsTypes", "targetListIsOptedOut"];
    NAMED.contains(&attribute) || is_link_multiple_part(attribute)
}

pub(super) fn is_link_multiple_part(attribute: &str) -> bool {
    link_part(attribute).is_some() || ["Ids", "Names", "Columns"].iter().any(|part| attribute.ends_with(part))
}

/// `usersIds` -> (`users`, `Ids`), for the link-multiples that are kept as links.
pub(super) fn link_part(attribute: &str) -> Option<(&str, &str)> {
    let cut =
        ["Ids", "Names", "Columns"].iter().find_map(|part| attribute.strip_suffix(part).map(|link| (link, *part)));
    cut.filter(|(link, _)| LINKS.iter().any(|(name, _)| name == link))
}

/// Link-multiples and what they point to.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("users", "User"),
    ("contacts", "Contact"),
    ("leads", "Lead"),
    ("teams", "Team"),
    ("attachments", "Attachment"),
    ("roles", "Role"),
];

pub(super) fn foreign_of(link: &str) -> Option<&'static str> {
    LINKS.iter().find(|(name, _)| *name == link).map(|(_, entity)| *entity)
}

pub(super) fn options(entity: &str, field: &str) -> Option<&'static [&'static str]> {
    Some(match (entity, field) {
        ("Meeting" | "Call", "status") => &["Planned", "Held", "Not Held"],
        ("Call", "direction") => &["Outbound", "Inbound"],
        ("Task", "status") => &["Not Started", "Started", "Completed", "Canceled", "Deferred"],
        ("Task", "priority") => &["Low", "Normal", "High", "Urgent"],
        ("Lead", "status") => &["New", "Assigned", "In Process", "Converted", "Recycled", "Dead"],
        ("Lead", "source") => {
            &["", "Call", "Email", "Existing Customer", "Partner", "Public Relations", "Web Site", "Campaign", "Other"]
        }
        _ => return None,
    })
}

pub(super) fn max_length(attribute: &str) -> Option<usize> {
    match attribute {
        "name" | "website" => Some(255),
        "firstName" | "lastName" | "title" | "addressCity" | "addressState" | "addressCountry" => Some(100),
        "addressPostalCode" => Some(40),
        _ => None,
    }
}

/// Ignored in what a client sends.
pub(super) fn is_read_only(entity: &str, attribute: &str) -> bool {
    const EVERYWHERE: &[&str] = &[
        "id",
        "createdAt",
        "modifiedAt",
        "createdById",
        "createdByName",
        "modifiedById",
        "modifiedByName",
        "deleted",
        "uid",
        "joinUrl",
        "streamUpdatedAt",
        "versionNumber",
        "dateCompleted",
        "isOverdue",
        "isFollowed",
        "followersIds",
        "followersNames",
        "duration",
        "acceptanceStatus",
        "hasPortalUser",
        "secretKey",
    ];
    EVERYWHERE.contains(&attribute)
        || (matches!(entity, "Meeting" | "Call" | "Task") && matches!(attribute, "accountId" | "contactId"))
        || (entity == "User" && matches!(attribute, "rolesIds" | "type"))
}

/// The attributes of one field, where they are more than one.
pub(super) const FIELDS: &[(&str, &[&str])] = &[
    ("dateStart", &["dateStart", "dateStartDate"]),
    ("dateEnd", &["dateEnd", "dateEndDate"]),
    ("users", &["usersIds", "usersColumns", "usersNames"]),
    ("contacts", &["contactsIds", "contactsColumns", "contactsNames"]),
    ("leads", &["leadsIds", "leadsColumns", "leadsNames"]),
    ("teams", &["teamsIds", "teamsNames"]),
    ("assignedUser", &["assignedUserId", "assignedUserName"]),
    ("parent", &["parentId", "parentType", "parentName"]),
    ("attachments", &["attachmentsIds", "attachmentsNames"]),
];

/// Field types as `GET Metadata` tells them.
pub(super) fn field_type(entity: &str, field: &str) -> &'static str {
    match field {
        "status" | "direction" | "priority" | "source" => "enum",
        "dateStart" | "dateEnd" if entity == "Call" => "datetime",
        "dateStart" | "dateEnd" => "datetimeOptional",
        "createdAt" | "modifiedAt" | "streamUpdatedAt" | "dateCompleted" | "lastAccess" | "convertedAt" => "datetime",
        "isAllDay" | "doNotCall" | "isActive" | "skipOwn" => "bool",
        "description" | "post" => "text",
        "reminders" => "jsonArray",
        "duration" => "duration",
        "joinUrl" | "website" | "url" => "url",
        "users" | "contacts" | "leads" | "teams" | "roles" => "linkMultiple",
        "attachments" => "attachmentMultiple",
        "assignedUser" | "createdBy" | "modifiedBy" | "account" | "contact" => "link",
        "parent" => "linkParent",
        "emailAddress" => "email",
        "phoneNumber" => "phone",
        "versionNumber" | "size" => "int",
        "name" if matches!(entity, "Contact" | "Lead" | "User") => "personName",
        _ => "varchar",
    }
}
