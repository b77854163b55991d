//! Which of several servers keeps a key: the same one that Django's client library asks.

use crate::options::Distribution;

/// The place of the server that keeps `key`, among at least one. `nodes` are the servers' names.
pub(crate) fn route(distribution: Distribution, nodes: &[String], key: &str) -> usize {
    match distribution {
        _ if nodes.len() < 2 => 0,
        Distribution::Rendezvous => rendezvous(nodes, key),
        Distribution::Modulo => one_at_a_time(key.as_bytes()) as usize % nodes.len(),
    }
}

/// The node with the highest hash of itself and the key; of equal ones the last by name.
fn rendezvous(nodes: &[String], key: &str) -> usize {
    let scored = nodes.iter().enumerate().map(|(place, node)| (murmur3_32(&format!("{node}-{key}")), node, place));
    scored.max().map_or(0, |(_, _, place)| place)
}

/// MurmurHash3, 32 bits, seed 0, of the characters' lowest eight bits: pymemcache hashes text, not bytes.
fn murmur3_32(text: &str) -> u32 {
    let bytes: Vec<u8> = text.chars().map(|char| char as u32 as u8).collect();
    let scramble = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(0_u32, |hash, block| {
        (hash ^ scramble(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    if !tail.is_empty() {
        hash ^= scramble(tail.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte)));
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// Jenkins' one-at-a-time hash as libmemcached computes it: a byte counts as a signed number.
fn one_at_a_time(bytes: &[u8]) -> u32 {
    let mut hash = bytes.iter().fold(0_u32, |hash, byte| {
        let hash = hash.wrapping_add(*byte as i8 as u32);
        let hash = hash.wrapping_add(hash << 10);
        hash ^ hash >> 6
    });
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places that pymemcache 4.0 and pylibmc 1.6 (libmemcached 1.0) chose.
    fn check(distribution: Distribution, nodes: &[&str], places: &[(&str, usize)]) {
        let nodes: Vec<String> = nodes.iter().map(|node| node.to_string()).collect();
        for (key, place) in places {
            assert_eq!(route(distribution, &nodes, key), *place, "{key}");
        }
    }

    #[test]
    fn keys_lie_where_pymemcache_puts_them() {
        let nodes = ["cache1.example:11211", "10.0.0.2:11212", "::1:11211", "/run/memcached.sock"];
        check(
            Distribution::Rendezvous,
            &nodes,
            &[
                (":1:django.contrib.sessions.cacheieqh524yng5by1a2rogubbb8ayn1b", 3),
                (":1:django.contrib.sessions.cache7o259owoo3sb09glshv616mts56zc4", 0),
                (":1:django.contrib.sessions.cachepz0lx9xf26gk7zx5b4ctzkk6oam89oz", 2),
                (":1:django.contrib.sessions.cache6ww3r9ay6i79n1d4x9m605w0wa88v3bo", 0),
                (":1:django.contrib.sessions.cachel9lf9qcefb2arprhlwsekkq7krs3u", 0),
                (":1:django.contrib.sessions.cache7bzu1dtindteettk0qia9cn3k6cymwg", 1),
                ("app:1:django.contrib.sessions.cacheer9eebasw54jg6ue6lljjutg6sinj", 0),
                ("app:1:django.contrib.sessions.cachebdwiiiqrzzlfo5al7u62opu54o0v9ro", 2),
                ("é:1:django.contrib.sessions.cachefcaa4uysmzkjbayj8dyqif3tac8d7", 1),
                ("é:1:django.contrib.sessions.cacheicrh1fmb5irm2yvrqppdlw197dw908", 0),
                ("é:1:django.contrib.sessions.cache7rfquftcydquiqyhtg1p69nvv6z4gi27", 2),
                ("é:1:django.contrib.sessions.cache89s70870t2ti62i9kqa1cx0zsbffa", 3),
            ],
        );
        check(Distribution::Rendezvous, &nodes[..1], &[("any", 0)]);
    }

    #[test]
    fn keys_lie_where_pylibmc_puts_them() {
        check(
            Distribution::Modulo,
            &["first", "second", "third"],
            &[
                (":1:django.contrib.sessions.cachedffxktqnck1z6x826rcbx3uy17k9l", 1),
                (":1:django.contrib.sessions.cachepobluli66x69l207xwx2kz37p5r566", 0),
                (":1:django.contrib.sessions.cachew33w935oukr4tt69760tn56xevamgdd", 2),
                (":1:django.contrib.sessions.cacherog7irpnd1cdxxlpbfhebcbxqikl7ayc", 2),
                ("app:1:django.contrib.sessions.cachexteo5mhxz3iwzhqhhfvzngb4c5sw3", 0),
                ("app:1:django.contrib.sessions.cachejxr47405szok5q91fgewl8j0efcisy", 2),
                ("é:1:django.contrib.sessions.cacheextz4lqw24fluyibgwkwe1a8upy8s", 0),
                ("é:1:django.contrib.sessions.cacheiu7hvzodz45u8f685z3k0y72cg2ih6l", 2),
                ("é:1:django.contrib.sessions.cachemtv1j1izutg9g4rs75ro0i9gb9mnmz", 2),
            ],
        );
    }
}
