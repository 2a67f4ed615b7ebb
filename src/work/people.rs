//! Who the people of an Outlook item are in EspoCRM: bound users, then users, contacts and leads by address; who is found
//! nowhere is made into a lead or contact, if the rules say so.

use espocrm::{Acting, Client, Entity, Found, NewPerson, PersonKind, Resolved};
use store::bindings::Binding;
use sync::{CreateParticipantAs, People, Rules, text};

/// The participants of a write, looked up.
#[derive(Debug, Default)]
pub struct Lookup {
    /// Who is to be related.
    pub resolved: Resolved,
    /// Addresses that nobody has and nobody was made for.
    pub left_out: Vec<String>,
}

/// What a look-up depends on.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// EspoCRM.
    pub client: &'a Client,
    /// The owner's rules.
    pub rules: &'a Rules,
    /// All bindings.
    pub bindings: &'a [Binding],
    /// As whom somebody is made.
    pub acting: Acting<'a>,
    /// The record's assigned user.
    pub owner: &'a str,
}

impl Terms<'_> {
    /// A bound mailbox belongs to its user, whatever address EspoCRM has for that user.
    fn bound(&self, address: &str) -> Option<Found> {
        let binding = self.bindings.iter().find(|binding| binding.mailbox.as_deref() == Some(address))?;
        Some(Found { entity: Entity::User, id: binding.user_id.clone(), name: binding.user_name.clone() })
    }
}

/// Looks up everybody in `people` who is not in the record yet.
///
/// # Errors
/// When EspoCRM cannot be asked. Somebody whom EspoCRM refuses to make is left out.
pub async fn resolve(terms: Terms<'_>, people: &People, known: &People) -> espocrm::Result<Lookup> {
    let mut lookup = Lookup::default();
    let mut open = Vec::new();
    for (address, person) in people.0.iter().filter(|(address, _)| !known.0.contains_key(*address)) {
        match terms.bound(address) {
            Some(found) => drop(lookup.resolved.insert(address.clone(), found)),
            None => open.push((address.clone(), person.name.clone())),
        }
    }
    if open.is_empty() {
        return Ok(lookup);
    }
    let addresses: Vec<String> = open.iter().map(|(address, _)| address.clone()).collect();
    let found = terms.client.people_by_address(&addresses).await?;
    for (address, name) in open {
        if let Some(first) = found.get(&address).and_then(|people| people.first()) {
            lookup.resolved.insert(address, first.clone());
            continue;
        }
        match made(terms, &address, name.as_deref()).await? {
            Some(person) => drop(lookup.resolved.insert(address, person)),
            None => lookup.left_out.push(address),
        }
    }
    Ok(lookup)
}

async fn made(terms: Terms<'_>, key: &str, name: Option<&str>) -> espocrm::Result<Option<Found>> {
    let kind = match terms.rules.create_participant_as {
        CreateParticipantAs::Lead => PersonKind::Lead,
        CreateParticipantAs::Contact => PersonKind::Contact,
        CreateParticipantAs::None => return Ok(None),
    };
    if is_nobody(key, &terms.rules.own_domains) {
        return Ok(None);
    }
    let new = NewPerson { kind, key, name, owner: Some(terms.owner) };
    terms.client.create_person(new, terms.acting).await
}

/// Who of `people` is left out of a record, and why, in sentences. `there` are the record's participants, `without_address` the
/// names of those who have no address.
///
/// # Errors
/// When EspoCRM cannot be asked.
pub async fn left_out(
    terms: Terms<'_>,
    people: &People,
    there: &People,
    without_address: &[String],
) -> espocrm::Result<Vec<String>> {
    let nameless: Vec<String> = without_address.iter().filter_map(|name| text::key_of_name(name)).collect();
    let missing: Vec<String> = people
        .0
        .keys()
        .filter(|key| !there.0.contains_key(*key) && !nameless.contains(key) && terms.bound(key).is_none())
        .cloned()
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    // Somebody who is known by another address is not missing.
    let known = terms.client.people_by_address(&missing).await?;
    let (nobodies, others): (Vec<String>, Vec<String>) = missing
        .into_iter()
        .filter(|key| !known.contains_key(key))
        .partition(|key| is_nobody(key, &terms.rules.own_domains));
    let said = |keys: Vec<String>, why: &str| {
        let shown = |key: &String| {
            let name = people.0.get(key).and_then(|person| person.name.clone());
            name.filter(|_| text::is_name_only(key)).unwrap_or_else(|| key.clone())
        };
        let all = keys.iter().map(shown).collect::<Vec<_>>().join(", ");
        (!all.is_empty()).then(|| [why, ": ", &all, "."].concat())
    };
    let why = match terms.rules.create_participant_as {
        CreateParticipantAs::None => {
            "Left out, because nobody in EspoCRM has these addresses and the rule makes nobody"
        }
        _ => "Left out, because nobody in EspoCRM has these addresses and EspoCRM did not take them as new",
    };
    let nobody =
        "Left out, because addresses that nobody reads, those of groups and of own domains are not made into people";
    Ok(said(nobodies, nobody).into_iter().chain(said(others, why)).collect())
}

/// Addresses that are no person to keep: senders that nobody reads, distribution groups, and the organisation's own domains.
fn is_nobody(address: &str, own_domains: &[String]) -> bool {
    let (local, domain) = address.split_once('@').unwrap_or((address, ""));
    let local = local.to_ascii_lowercase();
    let letters: String = local.chars().filter(char::is_ascii_alphanumeric).collect();
    ["noreply", "donotreply"].iter().any(|sender| letters.contains(sender))
        || matches!(letters.as_str(), "mailerdaemon" | "postmaster")
        || is_group(&local, &letters)
        || own_domains.iter().any(|own| domain.eq_ignore_ascii_case(own.trim_start_matches('@')))
}

/// Distribution groups, by the names that administrators give them: an attendee of Graph's does not say what it is, and to look
/// it up takes a permission on the whole directory. Those of other names are kept away by their domain (`own_domains`).
fn is_group(local: &str, letters: &str) -> bool {
    const WHOLE: [&str; 9] = [
        "all",
        "allcompany",
        "allemployees",
        "allstaff",
        "allusers",
        "alle",
        "everybody",
        "everyone",
        "distributionlist",
    ];
    const PARTS: [&str; 6] = ["dl", "distlist", "distribution", "grp", "list", "verteiler"];
    let mut parts = local.split(['-', '_', '.']);
    let (first, last) = (parts.next(), parts.next_back());
    WHOLE.contains(&letters) || last.is_some() && [first, last].into_iter().flatten().any(|part| PARTS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_that_nobody_reads_and_own_domains_are_nobody() {
        let own = vec!["contoso.example".to_owned()];
        for address in [
            "no-reply@x.example",
            "NoReply@x.example".to_lowercase().as_str(),
            "do-not-reply@x.example",
            "calendar-noreply@x.example",
            "new@Contoso.example",
        ] {
            assert!(is_nobody(address, &own), "{address}");
        }
        assert!(!is_nobody("nora.reply@x.example", &own));
    }

    #[test]
    fn distribution_groups_are_nobody_by_the_names_that_they_are_given() {
        for address in ["all@x.example", "all-staff@x.example", "DL-Sales@x.example", "sales-list@x.example"] {
            assert!(is_nobody(address, &[]), "{address}");
        }
        for address in ["dl@x.example", "allan@x.example", "anna.lister@x.example", "sales@x.example"] {
            assert!(!is_nobody(address, &[]), "{address}");
        }
    }
}
