//! The pickle module of a real Python reads what we write, and we read what it writes.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cloakroom_compat::live::python::root;
use cloakroom_compat::live::random::Random;
use cloakroom_compat::live::tell;
use cloakroom_compat::normal_json;
use cloakroom_core::wire::pickle::{self, Protocol};
use cloakroom_core::{ErrorKind, Values};

const SESSIONS: usize = 200;

/// Reads lines of JSON, and of our pickles of it in protocols 2 to 5 in hexadecimal digits. Answers each with what
/// is wrong with ours, or else with Python's own pickles: of both of its picklers, in all protocols.
const SCRIPT: &str = r#"
import io, json, pickle, random, resource, sys

# A damaged pickle can ask for room for four thousand million objects: Python is to refuse it, not to get the memory.
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

class Plain(pickle.Unpickler):
    def find_class(self, module, name):
        raise RuntimeError(f"our pickle names {module}.{name}")

def one_object_for_equal_texts(value, seen):
    if isinstance(value, str):
        return seen.setdefault(value, value)
    if isinstance(value, list):
        return [one_object_for_equal_texts(item, seen) for item in value]
    if isinstance(value, dict):
        return {one_object_for_equal_texts(k, seen): one_object_for_equal_texts(v, seen) for k, v in value.items()}
    return value

def hostile(data, chance):
    data = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data))
        kind = chance.randrange(3)
        if kind == 0:
            data[at] = chance.choice(b"(N}])tue.sa0125\x94\x85\x86\x87\x88h\x00\x01\x02K")
        elif kind == 1:
            del data[at]
        else:
            data[at:at] = data[at:at + chance.randint(1, 8)]
    return bytes(data)

chance = random.Random(int(sys.argv[1]))
for line in sys.stdin:
    text, *ours = line.rstrip("\n").split("\t")
    value = json.loads(text)
    compact = json.dumps(value, separators=(",", ":"))
    shared = one_object_for_equal_texts(value, {})
    for protocol, hexed in zip(range(2, 6), ours):
        data = bytes.fromhex(hexed)
        read = Plain(io.BytesIO(data)).load()
        if json.dumps(read, separators=(",", ":")) != compact:
            print(f"! protocol {protocol}: Python reads something else")
            break
        # What was compared by hand is Python 3.11; others may choose other instructions for the same.
        if sys.version_info[:2] == (3, 11) and data != pickle.dumps(shared, protocol):
            print(f"! protocol {protocol}: Python writes {pickle.dumps(shared, protocol)}, we write {data}")
            break
    else:
        theirs = [dumps(value, protocol) for dumps in (pickle.dumps, pickle._dumps) for protocol in range(6)]
        damaged = []
        for _ in range(4):
            data = hostile(chance.choice(theirs), chance) if len(text) < 2000 else theirs[0]
            try:
                read = Plain(io.BytesIO(data)).load()
                told = json.dumps(read) if isinstance(read, dict) else "!"
            except TypeError:
                continue
            except Exception:
                told = "!"
            damaged.append(data.hex() + ":" + told)
        print("\t".join([compact] + [data.hex() for data in theirs]))
        print("\t".join(damaged))
"#;

/// A Python, of which no more than the standard library is needed.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("CLOAKROOM_PYTHON").map(PathBuf::from);
    let candidates = given.into_iter().chain([root().join("target/venv/bin/python"), PathBuf::from("python3")]);
    for candidate in candidates {
        let probe = Command::new(&candidate).args(["-c", "import pickle"]).output();
        if probe.is_ok_and(|output| output.status.success()) {
            return Some(candidate);
        }
    }
    assert!(std::env::var("CLOAKROOM_REQUIRE").as_deref() != Ok("all"), "there is no python3");
    tell("left out: the pickle module of a real Python: there is no python3");
    None
}

fn random_text(random: &mut Random) -> String {
    const PARTS: &[&str] = &[
        "a", "name", "Ж", "日本", "😀", "é", "\\ud800", "\\udfff", "\\n", "\\\"", "\\\\", "\\u0000", "\\u007f",
        "\\u2028", "0",
    ];
    match random.below(2_000) {
        0..50 => "x".repeat(250 + random.below(10)),
        50 => "y".repeat(65_530 + random.below(10)),
        _ => (0..random.below(4)).map(|_| *random.pick(PARTS)).collect(),
    }
}

fn random_value(random: &mut Random, depth: usize) -> String {
    match random.below(if depth > 0 { 16 } else { 11 }) {
        0 => {
            (*random.pick(&["null", "true", "false", "NaN", "Infinity", "-Infinity", "-0.0", "-0", "1e400"])).to_owned()
        }
        1 => (random.bits() as i64 >> random.below(64)).to_string(),
        2 => format!("{}{}", if random.below(2) == 0 { "-" } else { "" }, 1u128 << random.below(128)),
        3 => format!("{}{}", 1 + random.below(9), "7".repeat(random.below(700))),
        4 => match f64::from_bits(random.bits()) {
            float if float.is_finite() => format!("{float:e}"),
            _ => "0.5".to_owned(),
        },
        5..11 => format!("\"{}\"", random_text(random)),
        11..13 => {
            let count = if random.below(40) == 0 { 999 + random.below(3) } else { random.below(5) };
            let items: Vec<String> =
                (0..count).map(|_| random_value(random, if count > 9 { 0 } else { depth - 1 })).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let many = random.below(40) == 0;
            let count = if many { 999 + random.below(3) } else { random.below(5) };
            format!("{{{}}}", random_items(random, count, if many { 0 } else { depth - 1 }, many).join(","))
        }
    }
}

/// Items with different keys.
fn random_items(random: &mut Random, count: usize, depth: usize, short: bool) -> Vec<String> {
    (0..count)
        .map(|at| {
            let key = if short { String::new() } else { random_text(random) };
            format!("\"{key}{}\":{}", if at == 0 { String::new() } else { at.to_string() }, random_value(random, depth))
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn python_and_we_read_each_other() {
    let Some(python) = python() else { return };
    let mut random = Random::from_env("pickles");
    let mut sessions = Vec::new();
    let mut input = String::new();
    for at in 0..SESSIONS {
        let count = if at == 1 { 1000 } else { random.below(5) };
        let items = random_items(&mut random, count, if count > 9 { 0 } else { 4 }, count > 9);
        // Python writes texts beyond ASCII as escapes; so does this line.
        let values =
            Values::parse(cloakroom_core::RawJson::parse(&format!("{{{}}}", items.join(","))).unwrap().as_str().into());
        let values = values.unwrap();
        input.push_str(&values.to_json());
        for protocol in [Protocol::V2, Protocol::V3, Protocol::V4, Protocol::V5] {
            input.push('\t');
            pickle::dumps(&values, protocol).unwrap().iter().for_each(|byte| input.push_str(&format!("{byte:02x}")));
        }
        input.push('\n');
        sessions.push(values);
    }
    let mut child = Command::new(python)
        .args(["-c", SCRIPT, &random.bits().to_string()])
        .env("PYTHONIOENCODING", "ascii")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    let mut answers = answers.lines();
    let mut damaged = 0;
    for values in &sessions {
        let answer = answers.next().unwrap();
        assert!(!answer.starts_with('!'), "{answer}\n{}", values.to_json());
        let mut pickles = answer.split('\t');
        let expected = normal_json(pickles.next().unwrap());
        for theirs in pickles {
            let read = pickle::loads(&unhex(theirs)).unwrap();
            assert_eq!(normal_json(&read.to_json()), expected, "{theirs}");
        }
        for case in answers.next().unwrap().split('\t').filter(|case| !case.is_empty()) {
            let (theirs, told) = case.split_once(':').unwrap();
            // Damage may leave a pickle sound, and then it is read as Python reads it. What Python refuses for
            // reasons of its own (a number without bounds, frames that overlap) need not be refused here.
            match pickle::loads(&unhex(theirs)) {
                Ok(read) if told != "!" => assert_eq!(normal_json(&read.to_json()), normal_json(told), "{theirs}"),
                Ok(read) => drop(Values::parse(read.to_json().into_bytes()).unwrap()),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Corrupted | ErrorKind::TooLarge), "{error}");
                    damaged += usize::from(told == "!");
                }
            }
        }
    }
    tell(&format!("pickles: {SESSIONS} sessions both ways, and {damaged} damaged ones refused on both sides"));
}
