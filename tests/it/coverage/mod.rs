//! Compares [`Grant::covers`] with the decision: whatever the covered grant admits, the covering one admits.

mod world;

use std::net::IpAddr;

use http::Method;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use tower_authz::{Dimension, Directory, Grant, IdGrammar, Networks, Restriction};

use self::world::{Ask, Route, SCOPED, SHOPS, UNSCOPED, admits, ask, directory, grant, pair, part, route};

/// Whether the rule tells the two apart by the one demand that asks a key to be confined, which is documented.
fn asks_to_be_confined(route: &Route, wide: &Grant) -> bool {
    route.require_networks && wide.networks().is_none()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn what_the_covered_grant_admits_the_covering_one_admits(
        (one, other) in pair(),
        directory in directory(),
        routes in prop::collection::vec((route(), ask()), 24),
    ) {
        let (wide, narrow) = (grant(&one), grant(&other));
        let (covers, covers_in) = (wide.covers(&narrow), wide.covers_in(&directory, &narrow));
        prop_assert!(!covers || covers_in, "the directory only adds to what is known");
        for (mut route, ask) in routes.into_iter().filter(|_| covers_in) {
            // Rules read the ids of a dimension as a key spells them, which every application has to see to.
            let spelt: Vec<usize> = [&one, &other].into_iter().filter_map(|part| Some(part.project.as_ref()?.0)).collect();
            route.project = spelt.get(route.project % spelt.len().max(1)).copied().unwrap_or(route.project);
            if !asks_to_be_confined(&route, &wide) {
                prop_assert!(
                    admits(&wide, &route, &ask, &directory) || !admits(&narrow, &route, &ask, &directory),
                    "{:?} does not cover {:?}: {:?} {:?}", wide, narrow, route, ask
                );
            }
        }
    }

    /// What is taken away by the builder is covered, and what is given is not.
    #[test]
    fn the_answer_is_no_only_where_there_is_doubt(part in part(), other in part(), id in prop::sample::select(&SHOPS[..])) {
        let whole = grant(&part);
        prop_assert!(whole.covers(&whole), "reflexive");
        for held in whole.permissions() {
            let less = whole.to_builder().without_permission(held.resource()).build().unwrap();
            prop_assert!(whole.covers(&less) && !less.covers(&whole));
            let reads = whole.to_builder().read(held.resource().to_owned()).build().unwrap();
            prop_assert!(whole.covers(&reads));
        }
        let other = grant(&other);
        for (over, list) in other.restrictions() {
            if whole.restriction(over).is_none() {
                let less = match list {
                    Restriction::Include(ids) => whole.to_builder().only(over.clone(), ids.iter()),
                    Restriction::Exclude(ids) => whole.to_builder().except(over.clone(), ids.iter()),
                };
                let less = less.build().unwrap();
                prop_assert!(whole.covers(&less) && !less.covers(&whole), "a restriction is added");
            }
        }
        if let Some(Restriction::Exclude(ids)) = whole.restriction(&Dimension::SHOP) {
            let fewer = whole.to_builder().except(Dimension::SHOP, ids.iter().chain([id])).build().unwrap();
            prop_assert!(whole.covers(&fewer));
            let listed = SHOPS.into_iter().filter(|shop| !ids.contains(shop));
            prop_assert!(whole.covers(&whole.to_builder().only(Dimension::SHOP, listed).build().unwrap()));
        }
        let anywhere = whole.to_builder().from_anywhere().build().unwrap();
        prop_assert!(anywhere.covers(&whole), "a wider network");
        prop_assert_eq!(whole.covers(&anywhere), whole.networks().is_none());
        prop_assert!(whole.covers(&whole.to_builder().without_origins().build().unwrap()));
    }

    /// Lists of networks are compared as the sets of their addresses.
    #[test]
    fn networks_are_compared_by_their_addresses(
        wide in prop::collection::vec((0_u8..16, 28_u8..=32), 0..8),
        narrow in prop::collection::vec((0_u8..16, 28_u8..=32), 0..4),
        v6 in any::<bool>(),
    ) {
        let (base, more) = if v6 { ("2001:db8::", 96) } else { ("10.0.0.", 0) };
        let network = |&(host, prefix): &(u8, u8)| {
            let host = u32::from(host) & !(u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0));
            let host = if v6 { format!("{host:x}") } else { host.to_string() };
            format!("{base}{host}/{}", prefix + more)
        };
        let parse = |list: &[(u8, u8)]| Networks::parse(list.iter().map(network)).unwrap();
        let (wide, narrow) = (parse(&wide), parse(&narrow));
        let address = |host: u8| -> IpAddr {
            let host = if v6 { format!("{host:x}") } else { host.to_string() };
            format!("{base}{host}").parse().unwrap()
        };
        let expected = (0..16).map(address).all(|address| wide.contains(address) || !narrow.contains(address));
        prop_assert_eq!(wide.covers(&narrow), expected, "{:?} {:?}", wide, narrow);
    }
}

/// The property is not met by refusing everything, nor by grants that are never related.
#[test]
fn the_generators_reach_both_answers() {
    let mut runner = TestRunner::deterministic();
    let all = (pair(), directory(), route(), ask());
    let (mut covered, mut by_directory, mut both, mut only_wide) = (0, 0, 0, 0);
    for _ in 0..4000 {
        let ((one, other), directory, route, ask) = all.new_tree(&mut runner).unwrap().current();
        let (wide, narrow) = (grant(&one), grant(&other));
        if wide.covers_in(&directory, &narrow) {
            covered += 1;
            by_directory += usize::from(!wide.covers(&narrow));
            let is_admitted = admits(&narrow, &route, &ask, &directory);
            both += usize::from(is_admitted);
            only_wide += usize::from(!is_admitted && admits(&wide, &route, &ask, &directory));
        }
    }
    let counts = format!("{covered} {by_directory} {both} {only_wide}");
    assert!((400..3600).contains(&covered) && by_directory > 5 && both > 50 && only_wide > 20, "{counts}");
}

/// A list of shops says nothing of the routes of companies: a key that has only one reaches them all, where the rule has
/// nothing to do with shops. So it is within no list of companies, whatever the directory says.
#[test]
fn a_list_of_shops_is_not_within_a_list_of_companies() {
    let directory = Directory::builder().shop("de", Some("1")).build().unwrap();
    let company = Grant::builder().read("orders").only("company", [1]).build().unwrap();
    let shop = Grant::builder().read("orders").only("shop", ["de"]).build().unwrap();
    let route = Route {
        resource: Some("orders"),
        alternative: false,
        handlings: [SCOPED, UNSCOPED, UNSCOPED],
        by_country: false,
        rest_unscoped: false,
        require_networks: false,
        require_origin: false,
        project: 0,
    };
    let ask = Ask { method: Method::GET, entities: ["2", "de", "apollo", "1001"], address: None, origin: None };
    assert!(admits(&shop, &route, &ask, &directory) && !admits(&company, &route, &ask, &directory));
    assert!(!company.covers_in(&directory, &shop));
    let both = shop.to_builder().only("company", [1]).build().unwrap();
    assert!(company.covers(&both), "restricted over both it is");
}

#[test]
fn a_directory_tells_which_shops_a_company_list_leaves() {
    let directory = |us| Directory::builder().shop("de", Some("1")).shop("us", us).build().unwrap();
    let own = Grant::builder().only("company", [1]).only("shop", ["de"]).build().unwrap();
    for (other, us, expected) in [
        (own.to_builder().except("shop", ["ch"]), Some("2"), true),
        (own.to_builder().except("shop", ["ch"]), None, true),
        (own.to_builder().except("shop", ["ch"]), Some("1"), false),
        (own.to_builder().except("shop", ["us"]), Some("1"), true),
        (own.to_builder().only("shop", ["de", "us"]), Some("2"), true),
        (own.to_builder().only("shop", ["de", "us"]).only("company", [1, 2]), Some("2"), false),
        (own.to_builder().without_restriction("shop"), Some("2"), false),
        (own.to_builder().without_restriction("company"), Some("2"), true),
    ] {
        let other = other.build().unwrap();
        let expected = expected && other.restriction(&Dimension::COMPANY).is_some();
        assert_eq!(own.covers_in(&directory(us), &other), expected, "{other:?} {us:?}");
        assert!(!own.covers_in(&Directory::default(), &other), "{other:?}: nothing is declared");
    }
}

#[test]
fn a_mapped_address_is_in_no_network_of_ipv6() {
    let all = Networks::parse(["::/0"]).unwrap();
    // Every address but the mapped ones: those that differ from them in one bit, and then in any way.
    let mapped = 0xffff_u128 << 32;
    let around = (0..96).map(|index| {
        let bit = 127 - index;
        format!("{}/{}", std::net::Ipv6Addr::from((mapped ^ (1 << bit)) >> bit << bit), index + 1)
    });
    let around = Networks::parse(around).unwrap();
    assert!(around.covers(&all) && all.covers(&around));
    let v4 = Networks::parse(["10.0.0.1"]).unwrap();
    assert!(!all.covers(&v4) && !around.covers(&v4));
    let mapped = Networks::parse(["::ffff:10.0.0.0/104"]).unwrap();
    assert!(mapped.covers(&v4) && Networks::parse(["10.0.0.0/8"]).unwrap().covers(&mapped));
    let less = Networks::parse(["::/1"]).unwrap();
    assert!(!less.covers(&all) && !Networks::default().covers(&less) && less.covers(&Networks::default()));
}

/// An exclude list lets nothing through where the rule reads ids by another grammar, so that only a grant whose ids are
/// spelt alike, or more narrowly, is known to be within it. An include list is what it lists.
#[test]
fn lists_of_other_spellings_are_in_doubt() {
    use IdGrammar::{Custom, Number, Opaque, Slug};
    let (upper, digits) = (|id: &str| id.bytes().all(|byte| byte.is_ascii_uppercase()), |id: &str| id.len() == 1);
    let project = |ids| Dimension::new("project", ids);
    for (wide, narrow, expected) in [
        (Slug, Slug, true),
        (Opaque, Slug, true),
        (Slug, Number, true),
        (Slug, Opaque, false),
        (Number, Slug, false),
        (Custom(digits), Number, false),
        (Number, Custom(digits), false),
        (Custom(digits), Custom(digits), true),
        (Custom(digits), Custom(|id| id.len() < 2), false),
    ] {
        let except = |ids, list: &[u8]| Grant::builder().except(project(ids), list).build().unwrap();
        let only = |ids, list: &[u8]| Grant::builder().only(project(ids), list).build().unwrap();
        let context = format!("{wide:?} {narrow:?}");
        assert_eq!(except(wide, &[1]).covers(&except(narrow, &[1, 2])), expected, "{context}");
        assert_eq!(except(wide, &[1]).covers(&only(narrow, &[2, 3])), expected, "{context}");
        assert!(except(wide, &[1]).covers(&only(narrow, &[])), "{context}: nothing is in every list");
        assert!(only(wide, &[1, 2]).covers(&only(narrow, &[1])), "{context}");
        for narrower in [except(narrow, &[2]), only(narrow, &[1, 2])] {
            assert!(!except(wide, &[1]).covers(&narrower), "{context}");
        }
        assert!(!only(wide, &[1]).covers(&except(narrow, &[1])), "{context}");
    }
    let shops = |ids| Dimension::new("shop", Custom(ids));
    let own = Grant::builder().only("company", [1]).except(shops(upper), ["US"]).build().unwrap();
    let directory = Directory::builder().shop("DE", Some("1")).build_with(&shops(upper)).unwrap();
    let other = |spelt| Grant::builder().only("company", [1]).except(shops(spelt), ["CH"]).build().unwrap();
    assert!(own.covers_in(&directory, &other(upper)) && !own.covers_in(&directory, &other(|id| !id.is_empty())));
}
