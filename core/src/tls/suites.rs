//! Cipher suites by their names in OpenSSL (`openssl ciphers`).

use rustls::CipherSuite;

/// What rustls may have, with the names of OpenSSL.
const NAMES: &[(CipherSuite, &str)] = &[
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"),
];

/// The name in OpenSSL; empty for one that no provider has.
pub(super) fn openssl_name(suite: CipherSuite) -> &'static str {
    NAMES.iter().find(|(known, _)| *known == suite).map_or("", |(_, name)| name)
}

/// What a list of ciphers comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ciphers {
    /// Suites of TLS 1.2, in the list's order.
    pub suites: Vec<CipherSuite>,
    /// Entries that name nothing that there is here.
    pub unknown: Vec<String>,
}

/// Reads a list of ciphers as OpenSSL writes it (openssl-ciphers, "CIPHER LIST FORMAT"): names of
/// suites, the words for groups of them joined by `+`, and `!` or `-` before what is left out. The
/// suites of TLS 1.3 are not its matter: they are always on.
pub fn select(list: &str) -> Ciphers {
    let mut found = Ciphers { suites: Vec::new(), unknown: Vec::new() };
    let entries = list.split([':', ',', ' ']).map(str::trim).filter(|entry| !entry.is_empty());
    let (out, taken): (Vec<&str>, Vec<&str>) =
        entries.partition(|entry| entry.starts_with(['!', '-']));
    for entry in taken {
        let names = entry.trim_start_matches('+');
        // The order of strength is the only one there is.
        if names.starts_with('@') {
            continue;
        }
        let before = found.suites.len();
        let fits: Vec<CipherSuite> =
            all().filter(|(_, name)| is_one_of(name, names)).map(|(suite, _)| suite).collect();
        let is_known = !fits.is_empty() || NAMES.iter().any(|(_, name)| *name == names);
        for suite in fits {
            if !found.suites.contains(&suite) {
                found.suites.push(suite);
            }
        }
        if !is_known && found.suites.len() == before {
            found.unknown.push(entry.to_owned());
        }
    }
    for entry in out {
        found.suites.retain(|suite| !is_one_of(openssl_name(*suite), &entry[1..]));
    }
    found
}

/// The suites of TLS 1.2.
fn all() -> impl Iterator<Item = (CipherSuite, &'static str)> {
    NAMES.iter().copied().filter(|(_, name)| !name.starts_with("TLS_"))
}

/// Whether a suite is what an entry names: itself, or all groups of it.
fn is_one_of(suite: &str, entry: &str) -> bool {
    suite == entry
        || entry.split('+').all(|group| match group {
            "ALL" | "DEFAULT" | "HIGH" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "TLSv1.2" => {
                true
            }
            "AESGCM" | "AES" => suite.contains("AES"),
            "AES128" => suite.contains("AES128"),
            "AES256" => suite.contains("AES256"),
            "CHACHA20" => suite.contains("CHACHA20"),
            "SHA256" => suite.ends_with("SHA256"),
            "SHA384" => suite.ends_with("SHA384"),
            "ECDSA" | "aECDSA" => suite.contains("-ECDSA-"),
            "aRSA" | "RSA" => suite.contains("-RSA-") && group == "aRSA",
            _ => false,
        })
}
