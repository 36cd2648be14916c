//! Readings of the specification that are wrong in one way each. The oracle has to find every one of them, or it would
//! not find the same mistake in the crate either.

mod credentials;
mod grants;
mod routes;

use crate::interpreter::Reading;

/// A wrong reading with its name.
pub struct Fault {
    /// What is wrong.
    pub name: &'static str,
    /// The reading.
    pub reading: &'static dyn Reading,
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All faults.
#[must_use]
pub fn all() -> Vec<Fault> {
    let fault = |name, reading| Fault { name, reading };
    vec![
        fault("an exclude list is ignored", &grants::ExcludeIgnored),
        fault("an empty include list allows everything", &grants::EmptyIncludeIsAll),
        fault("an empty exclude list is a restriction", &grants::EmptyExcludeRestricts),
        fault("write does not imply read", &grants::WriteWithoutRead),
        fault("a resource matches by its beginning", &grants::ResourcePrefix),
        fault("no other permission will do", &grants::NothingElseWillDo),
        fault("a shop country does not inherit", &grants::CountryInheritsNothing),
        fault("a shop does not obey company lists", &grants::ShopObeysNoCompany),
        fault("a gap in the directory opens", &grants::GapOpens),
        fault("a rule that says nothing admits restricted keys", &grants::SilenceAdmits),
        fault("an empty list of networks is anywhere", &grants::NoNetworksIsAnywhere),
        fault("an unknown address passes a list of networks", &grants::UnknownAddressPasses),
        fault("a network of mapped addresses holds no IPv4 address", &grants::MappedIsForeign),
        fault("an origin matches by its beginning", &grants::OriginPrefix),
        fault("the id of a key admits", &credentials::KeyIdAdmits),
        fault("a key of no kind is of every kind", &credentials::NoKindIsEveryKind),
        fault("a key of no tenant belongs to every tenant", &credentials::NoTenantIsEveryTenant),
        fault("a key is valid at the moment at which it expires", &credentials::ExpiresLate),
        fault("a revocation has a date in the future", &credentials::RevokedLater),
        fault("a bad credential is followed by the next", &credentials::FallsBack),
        fault("the leftmost address is the client", &credentials::Leftmost),
        fault("a proxy cannot tell of HTTPS", &credentials::ProxyIsNotHeard),
        fault("a fallback has no rule", &routes::NoFallback),
        fault("an id has several spellings", &routes::LooseIds),
        fault("the path is decoded before it is matched", &routes::DecodedFirst),
        fault("an encoded dot is clean", &routes::EncodedDotIsClean),
        fault("a rule for GET does not hold for HEAD", &routes::HeadNeedsItsOwn),
        fault("every method that nobody knows reads", &routes::UnknownReads),
        fault("a concealed rule shows its refusals", &routes::ConcealedShows),
        fault("a denied question meets an obligation", &routes::DeniedMeets),
        fault("a filter needs not be asked for", &routes::FilterOptional),
    ]
}
