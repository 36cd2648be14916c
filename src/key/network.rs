use std::{fmt, hash, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{error::ConfigError, key::runs::Runs};

/// One network in CIDR notation, parsed strictly and kept canonical.
///
/// The address goes through the standard library's parser (`ipnet`'s own takes `010.0.0.0/8`), the
/// prefix is plain decimal, and host bits are an error: `10.0.0.1/8` written for one host would admit
/// sixteen million. A bare address is one host. IPv4-mapped IPv6 becomes the IPv4 that it means.
///
/// # Example
/// ```
/// use tower_authz::Network;
///
/// let network: Network = "::ffff:10.0.0.0/104".parse()?;
/// assert_eq!(network.to_string(), "10.0.0.0/8");
/// assert!(network.contains("10.1.2.3".parse()?));
/// assert!("10.0.0.0/08".parse::<Network>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// Whether the network holds this address, in whichever form the address comes.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether this is every address of its family (`0.0.0.0/0`, `::/0`): an allowlist with it allows
    /// nearly everyone, so tools that show or issue keys should warn.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.prefix_len() == 0
    }
}

impl FromStr for Network {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |what: &str| ConfigError::new(format!("{text:?} is not a network: {what}"));
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| wrong("write an address and a prefix length, like 10.0.0.0/8 or 2001:db8::/32"))?;
        let widest: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => widest,
            Some(digits) => decimal(digits)
                .filter(|&prefix| prefix <= widest)
                .ok_or_else(|| wrong(&format!("the prefix length is a number from 0 to {widest}")))?,
        };
        let network = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(mapped)) => {
                let prefix = prefix
                    .checked_sub(96)
                    .ok_or_else(|| wrong("an IPv4-mapped network has a prefix length of 96 or more"))?;
                Ipv4Net::new(mapped, prefix).map(IpNet::V4)
            }
            (_, IpAddr::V4(address)) => Ipv4Net::new(address, prefix).map(IpNet::V4),
            (_, IpAddr::V6(address)) => Ipv6Net::new(address, prefix).map(IpNet::V6),
        }
        .map_err(|_| wrong("the prefix is too long"))?;
        if network != network.trunc() {
            return Err(wrong(&format!(
                "it has host bits; write {} for the network or {} for one host",
                network.trunc(),
                network.addr()
            )));
        }
        Ok(Self(network))
    }
}

/// A number of one to three digits without sign, space or leading zero.
fn decimal(digits: &str) -> Option<u8> {
    let plain = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    plain.then(|| digits.parse().ok())?
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A list of networks that answers fast however long it is: overlaps are merged, and a search takes
/// the logarithm of what is left. An empty list holds nothing.
///
/// # Example
/// ```
/// use tower_authz::Networks;
///
/// let office = Networks::parse(["10.0.0.0/8", "2001:db8::/32"])?;
/// assert!(office.contains("::ffff:10.9.9.9".parse()?));
/// assert!(!office.contains("11.0.0.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// As given, for people to read back.
    listed: Box<[Network]>,
    v4: Runs<u32>,
    v6: Runs<u128>,
}

impl Networks {
    /// Parses each text as a [`Network`].
    ///
    /// # Errors
    /// At the first that is not one, with its place in the list.
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, ConfigError> {
        texts
            .into_iter()
            .enumerate()
            .map(|(index, text)| {
                text.as_ref().parse().map_err(|error: ConfigError| error.at(format_args!("[{index}]")))
            })
            .collect()
    }

    /// Whether one of the networks holds this address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(u32::from(address)),
            IpAddr::V6(address) => self.v6.contains(u128::from(address)),
        }
    }

    /// Whether every address that the other list holds is in this one, in one of its networks or in several that lie
    /// beside each other.
    ///
    /// # Example
    /// ```
    /// use tower_authz::Networks;
    ///
    /// let halves = Networks::parse(["10.0.0.0/9", "10.128.0.0/9"])?;
    /// assert!(halves.covers(&Networks::parse(["10.0.0.0/8"])?));
    /// assert!(!halves.covers(&Networks::parse(["10.0.0.0/7"])?));
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // IPv4-mapped addresses are IPv4, so that no IPv6 network ever holds one.
        const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);
        self.v4.covers(&other.v4, None) && self.v6.covers(&other.v6, Some(MAPPED))
    }

    /// The networks as they were given.
    pub fn iter(&self) -> impl Iterator<Item = Network> {
        self.listed.iter().copied()
    }

    /// The networks of each that lie in one of the other.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let within = |list: &Self, other: &Self| {
            let lies_in = |network: &Network| other.iter().any(|wide| wide.0.contains(&network.0));
            list.iter().filter(lies_in).collect::<Vec<_>>()
        };
        let mut both = within(self, other);
        both.extend(within(other, self));
        let mut seen = std::collections::HashSet::new();
        both.into_iter().filter(|network| seen.insert(*network)).collect()
    }

    /// Whether there is none, so that no address is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
}

/// Lists that are equal as they were given are equal.
impl hash::Hash for Networks {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.listed.hash(state);
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let listed: Box<[Network]> = networks.into_iter().collect();
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        // `aggregate` merges neighbours and drops what another covers; each run is one network.
        for network in IpNet::aggregate(&listed.iter().map(|network| network.0).collect()) {
            match network {
                IpNet::V4(network) => v4.push((network.network().into(), network.broadcast().into())),
                IpNet::V6(network) => v6.push((network.network().into(), network.broadcast().into())),
            }
        }
        Self { listed, v4: Runs::new(v4), v6: Runs::new(v6) }
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.listed.iter().map(|network| network.0)).finish()
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.listed.iter())
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Network>::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_say_what_to_write() {
        let error = "192.168.1.1/24".parse::<Network>().unwrap_err().to_string();
        assert!(error.contains("192.168.1.0/24") && error.contains("192.168.1.1 for one host"), "{error}");
        let error = Networks::parse(["10.0.0.0/8", "ten"]).unwrap_err().to_string();
        assert!(error.starts_with("[1]"), "{error}");
    }

    #[test]
    fn an_empty_list_holds_nothing() {
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn families_stay_apart() {
        let all_v4 = Networks::parse(["0.0.0.0/0"]).unwrap();
        assert!(all_v4.contains("::ffff:1.2.3.4".parse().unwrap()));
        assert!(!all_v4.contains("2001:db8::1".parse().unwrap()));
        let all_v6 = Networks::parse(["::/0"]).unwrap();
        assert!(!all_v6.contains("::ffff:1.2.3.4".parse().unwrap()));
    }

    proptest! {
        /// The merged search answers as a walk over the list does.
        #[test]
        fn search_equals_walk(nets in prop::collection::vec((any::<u32>(), 4_u8..=32), 0..300), probe: u32, near: u8) {
            let listed: Vec<Network> = nets
                .iter()
                .map(|&(address, prefix)| Network(IpNet::V4(Ipv4Net::new(address.into(), prefix).unwrap().trunc())))
                .collect();
            let networks: Networks = listed.iter().copied().collect();
            // Edges are where a search goes wrong: probe them, and a random address.
            let edge = nets.first().map_or(probe, |&(address, _)| address.wrapping_add(u32::from(near)));
            for address in [probe, edge] {
                let address = IpAddr::V4(address.into());
                prop_assert_eq!(networks.contains(address), listed.iter().any(|network| network.contains(address)));
            }
        }

        /// The same of the other family, crowded together, so that few bits tell the runs apart.
        #[test]
        fn search_equals_walk_in_v6(
            nets in prop::collection::vec((any::<u16>(), any::<u16>(), 100_u8..=128), 0..300),
            probe: u32,
            near: u8,
        ) {
            let base = 0x2001_0db8_u128 << 96;
            let of = |high: u16, low: u16| base | u128::from(high) << 40 | u128::from(low);
            let listed: Vec<Network> = nets
                .iter()
                .map(|&(high, low, prefix)| Network(IpNet::V6(Ipv6Net::new(of(high, low).into(), prefix).unwrap().trunc())))
                .collect();
            let networks: Networks = listed.iter().copied().collect();
            let edge = nets.first().map_or(base, |&(high, low, _)| of(high, low).wrapping_add(u128::from(near)));
            for address in [edge, base | u128::from(probe), u128::from(probe), 0, u128::MAX] {
                let address = IpAddr::V6(address.into());
                prop_assert_eq!(networks.contains(address), listed.iter().any(|network| network.contains(address)));
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<Network>();
        }
    }
}
