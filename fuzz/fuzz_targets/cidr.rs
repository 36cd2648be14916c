//! Passes text through the parser of `Network`.
//!
//! This target looks for a panic; a network that reads back differently from how it was written, does not contain its
//! own address, or reaches beyond its prefix; and host bits, leading zeros or signs that are accepted.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use tower_authz::{Network, Networks};

/// Maps all addresses to one number space, IPv4 to the range of its IPv6-mapped addresses.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fuzz_target!(|text: &str| {
    let Ok(network) = text.parse::<Network>() else { return };
    let written = network.to_string();
    assert_eq!(written.parse::<Network>().as_ref(), Ok(&network), "{text} reads back as {written}");

    // The parser accepts only addresses that std accepts, and a plain decimal prefix.
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().unwrap();
    assert!(prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix.len() < 2 || !prefix.starts_with('0')));
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let host_bits = if prefix.is_empty() { 0 } else { width - prefix.parse::<u32>().unwrap() };
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    // An IPv4 network has only 32 bits, so its mask ends there too.
    let first = number(address);
    let host = !mask;
    assert_eq!(first & host & (u128::MAX >> (128 - width)), 0, "{text} has host bits");

    assert!(network.contains(address));
    let list = Networks::parse([text]).unwrap();
    let last = first | host & (u128::MAX >> (128 - width));
    for probe in [first, last, last.wrapping_add(1), first.wrapping_sub(1), first ^ 1, last ^ (last >> 1)] {
        let probe = IpAddr::V6(probe.into()).to_canonical();
        // IPv4 and IPv6 stay apart, even if a network contains both by their numbers.
        let same_family = probe.is_ipv4() == address.to_canonical().is_ipv4();
        let within = same_family && (first..=last).contains(&number(probe));
        assert_eq!(network.contains(probe), within, "{probe} in {text}");
        assert_eq!(list.contains(probe), within, "{probe} in the list of {text}");
    }
});
