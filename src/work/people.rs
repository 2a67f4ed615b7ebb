//! Who the people of an Outlook item are in EspoCRM: bound users, then users, contacts and leads by address; who is found
//! nowhere is made into a lead or contact, if the rules say so.

use espocrm::{Client, Entity, Found, PersonKind, Resolved};
use store::bindings::Binding;
use sync::{CreateParticipantAs, People, Rules};

/// The participants of a write, looked up.
#[derive(Debug, Default)]
pub struct Lookup {
    /// Who is to be related.
    pub resolved: Resolved,
    /// Addresses that nobody has and nobody was made for.
    pub left_out: Vec<String>,
}

/// Looks up everybody in `people` who is not in the record yet.
///
/// # Errors
/// When EspoCRM cannot be asked. Somebody whom EspoCRM refuses to make is left out.
pub async fn resolve(
    client: &Client,
    rules: &Rules,
    bindings: &[Binding],
    people: &People,
    known: &People,
    owner: &str,
) -> espocrm::Result<Lookup> {
    let mut lookup = Lookup::default();
    let mut open = Vec::new();
    for (address, person) in people.0.iter().filter(|(address, _)| !known.0.contains_key(*address)) {
        // A bound mailbox belongs to its user, whatever address EspoCRM has for that user.
        match bindings.iter().find(|binding| binding.mailbox.as_deref() == Some(address)) {
            Some(binding) => {
                let found =
                    Found { entity: Entity::User, id: binding.user_id.clone(), name: binding.user_name.clone() };
                lookup.resolved.insert(address.clone(), found);
            }
            None => open.push((address.clone(), person.name.clone())),
        }
    }
    if open.is_empty() {
        return Ok(lookup);
    }
    let addresses: Vec<String> = open.iter().map(|(address, _)| address.clone()).collect();
    let found = client.people_by_address(&addresses).await?;
    for (address, name) in open {
        if let Some(first) = found.get(&address).and_then(|people| people.first()) {
            lookup.resolved.insert(address, first.clone());
            continue;
        }
        match made(client, rules, &address, name.as_deref(), owner).await? {
            Some(person) => {
                lookup.resolved.insert(address, person);
            }
            None => lookup.left_out.push(address),
        }
    }
    Ok(lookup)
}

async fn made(
    client: &Client,
    rules: &Rules,
    address: &str,
    name: Option<&str>,
    owner: &str,
) -> espocrm::Result<Option<Found>> {
    let kind = match rules.create_participant_as {
        CreateParticipantAs::Lead => PersonKind::Lead,
        CreateParticipantAs::Contact => PersonKind::Contact,
        CreateParticipantAs::None => return Ok(None),
    };
    if is_nobody(address, &rules.own_domains) {
        return Ok(None);
    }
    client.create_person(kind, address, name, Some(owner)).await
}

/// Addresses that are no person to keep: senders that nobody reads, and the organisation's own domains.
fn is_nobody(address: &str, own_domains: &[String]) -> bool {
    let (local, domain) = address.split_once('@').unwrap_or((address, ""));
    let local: String = local.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(local.as_str(), "noreply" | "donotreply" | "mailerdaemon" | "postmaster")
        || own_domains.iter().any(|own| domain.eq_ignore_ascii_case(own.trim_start_matches('@')))
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
            "new@Contoso.example",
        ] {
            assert!(is_nobody(address, &own), "{address}");
        }
        assert!(!is_nobody("nora.reply@x.example", &own));
    }
}
