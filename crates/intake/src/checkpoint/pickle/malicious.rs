//! Pickles that attack their reader: each is refused whole, alone and inside both containers.

use super::super::error::CheckpointError;
use super::super::read_bytes;
use super::assemble::{Item, container, container_with, legacy, module, pickle, tensor};
use super::load;

type Check = fn(&CheckpointError) -> bool;

fn foreign(e: &CheckpointError) -> bool {
    matches!(e, CheckpointError::ForeignGlobal { .. })
}
fn limit(e: &CheckpointError) -> bool {
    matches!(e, CheckpointError::Limit { .. })
}
fn malformed(e: &CheckpointError) -> bool {
    matches!(e, CheckpointError::Pickle { .. })
}
fn opcode(e: &CheckpointError) -> bool {
    matches!(e, CheckpointError::Opcode { .. })
}
fn truncated(e: &CheckpointError) -> bool {
    matches!(e, CheckpointError::Truncated { .. })
}

/// Name, opcodes (without the PROTO in front), and what the refusal must be.
fn corpus() -> Vec<(&'static str, Vec<u8>, Check)> {
    let raw = |b: &[u8]| b.to_vec();
    let mut all: Vec<(&'static str, Vec<u8>, Check)> = vec![
        ("os.system", raw(b"cos\nsystem\nU\x02id\x85R."), foreign),
        ("posix.system", raw(b"cposix\nsystem\n(U\x02idtR."), foreign),
        ("nt.system", raw(b"cnt\nsystem\n(U\x02idtR."), foreign),
        ("subprocess.Popen", raw(b"csubprocess\nPopen\n(U\x02idtR."), foreign),
        ("subprocess.Popen by NEWOBJ", raw(b"csubprocess\nPopen\n(U\x02idt\x81."), foreign),
        ("builtins.eval", raw(b"cbuiltins\neval\nU\x011\x85R."), foreign),
        ("__builtin__.exec", raw(b"c__builtin__\nexec\nU\x011\x85R."), foreign),
        ("__builtin__.__import__", raw(b"c__builtin__\n__import__\nU\x02os\x85R."), foreign),
        ("builtins.open", raw(b"cbuiltins\nopen\nU\x05/etc/\x85R."), foreign),
        (
            "nested getattr",
            raw(b"cbuiltins\ngetattr\n(cbuiltins\ngetattr\n(ctorch\nload\nU\x0b__globals__tRU\x03gettR."),
            foreign,
        ),
        (
            "getattr of a model's class",
            raw(b"c__builtin__\ngetattr\n(ctorch.nn\nModule\nU\x08__init__tR."),
            foreign,
        ),
        ("STACK_GLOBAL os.system", raw(b"\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R."), foreign),
        (
            "STACK_GLOBAL through torch",
            raw(b"\x8c\x13torch.serialization\x8c\x09os.system\x93\x8c\x02id\x85R."),
            foreign,
        ),
        (
            "STACK_GLOBAL of remembered text",
            raw(b"\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93."),
            foreign,
        ),
        ("a foreign class never called", raw(b"cos\nsystem\n0N."), foreign),
        ("a foreign class in a state dict", raw(b"}U\x01acos\nsystem\nU\x02id\x85Rs."), foreign),
        (
            "a foreign class in a state",
            raw(b"ctorch.nn\nModule\n)\x81}U\x01acos\nsystem\nU\x02id\x85Rsb."),
            foreign,
        ),
        ("torch.hub.load", raw(b"ctorch.hub\nload\nU\x01x\x85R."), foreign),
        ("torch.load", raw(b"ctorch\nload\nU\x01x\x85R."), foreign),
        ("torch.storage._load_from_bytes", raw(b"ctorch.storage\n_load_from_bytes\nU\x01x\x85R."), foreign),
        ("torch.utils.model_zoo", raw(b"ctorch.utils.model_zoo\nload_url\nU\x01x\x85R."), foreign),
        (
            "ultralytics function",
            raw(b"cultralytics.utils.checks\ncheck_requirements\nU\x01x\x85R."),
            foreign,
        ),
        ("models function", raw(b"cmodels.experimental\nattempt_download\nU\x01x\x85R."), foreign),
        ("numpy.testing runstring", raw(b"cnumpy.testing._private.utils\nrunstring\n(U\x01x}tR."), foreign),
        ("numpy.load", raw(b"cnumpy\nload\nU\x01x\x85R."), foreign),
        ("functools.partial", raw(b"cfunctools\npartial\nctorch\nload\n\x85R."), foreign),
        ("operator.attrgetter", raw(b"coperator\nattrgetter\nU\x06system\x85R."), foreign),
        ("pickle.loads", raw(b"cpickle\nloads\nU\x01.\x85R."), foreign),
        ("runpy", raw(b"crunpy\n_run_code\n)R."), foreign),
        ("webbrowser", raw(b"cwebbrowser\nopen\nU\x01x\x85R."), foreign),
        ("pip", raw(b"cpip._internal\nmain\n)R."), foreign),
        ("types.CodeType", raw(b"ctypes\nCodeType\n)R."), foreign),
        ("types.FunctionType", raw(b"ctypes\nFunctionType\n)R."), foreign),
        ("__main__", raw(b"c__main__\nModel\n)R."), foreign),
        ("a name with spaces", raw(b"ctorch nn\nModule\n)R."), foreign),
        ("an empty name", raw(b"c\n\n)R."), foreign),
        ("a name of another script", "cto\u{440}ch\nload\n)R.".as_bytes().to_vec(), foreign),
        ("INST", raw(b"(U\x02idios\nsystem\n."), opcode),
        ("OBJ", raw(b"(cos\nsystem\nU\x02ido."), foreign),
        ("OBJ of a known class", raw(b"(ctorch\nSize\no."), opcode),
        ("EXT1", raw(b"\x82\x01."), opcode),
        ("EXT4", raw(b"\x84\x01\x00\x00\x00."), opcode),
        ("PERSID", raw(b"Pos.system\n."), opcode),
        ("NEXT_BUFFER", raw(b"\x97."), opcode),
        ("READONLY_BUFFER", raw(b"N\x98."), opcode),
        ("text of protocol 0", raw(b"S'os'\n."), opcode),
        ("an unknown opcode", raw(b"\xff."), opcode),
        ("protocol 9", raw(b"\x80\x09N."), malformed),
        ("calling a text", raw(b"U\x02os)R."), malformed),
        ("calling a number", raw(b"K\x01)R."), malformed),
        ("calling an object", raw(b"ctorch\nSize\n)R)R."), malformed),
        ("calling with no tuple", raw(b"ctorch\nSize\nNR."), malformed),
        ("state on a class", raw(b"ctorch\nSize\n}b."), malformed),
        ("state twice", raw(b"ctorch.nn\nModule\n)\x81}b}b."), malformed),
        ("keyword arguments", raw(b"ctorch\nSize\n)}U\x01aNs\x92."), malformed),
        ("appending to a text", raw(b"U\x01aNa."), malformed),
        ("setting on a list", raw(b"]NNs."), malformed),
        ("an odd dictionary", raw(b"(Nd."), malformed),
        ("empty stack", raw(b"."), malformed),
        ("stop below a mark", raw(b"N(."), malformed),
        ("pop below a mark", raw(b"N(0N."), malformed),
        ("values left over", raw(b"NN."), malformed),
        ("a mark that never was", raw(b"Nt."), malformed),
        ("memory never written", raw(b"h\x07."), malformed),
        ("memory of an empty stack", raw(b"q\x00N."), malformed),
        ("a decimal that is none", raw(b"I1;import os\n."), malformed),
        ("text that is not UTF-8", raw(b"X\x02\x00\x00\x00\xff\xfe."), malformed),
        ("BINPERSID of nothing", raw(b"Q."), malformed),
        ("BINPERSID of None", raw(b"NQ."), malformed),
        ("BINPERSID of a text", raw(b"U\x07storageQ."), malformed),
        ("BINPERSID of an empty tuple", raw(b")Q."), malformed),
        ("BINPERSID of another kind", raw(b"(U\x04fileU\x0b/etc/passwdtQ."), malformed),
        ("BINPERSID without a class", raw(b"(U\x07storageNU\x010U\x03cpuK\x01tQ."), malformed),
        (
            "BINPERSID of negative length",
            raw(b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuJ\xff\xff\xff\xfftQ."),
            malformed,
        ),
        (
            "BINPERSID with a path as key",
            raw(b"(U\x07storagectorch\nFloatStorage\nNU\x03cpuK\x01tQ."),
            malformed,
        ),
        ("a text of 4 GiB", raw(b"X\xff\xff\xff\xffa."), limit),
        ("a text of 2^63 bytes", raw(b"\x8d\x00\x00\x00\x00\x00\x00\x00\x80a."), limit),
        ("bytes of 2^64 bytes", raw(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffa."), limit),
        ("a bytearray of 2^64 bytes", raw(b"\x96\xff\xff\xff\xff\xff\xff\xff\xffa."), limit),
        ("an integer of 4 GiB", raw(b"\x8b\xff\xff\xff\xff."), limit),
        ("a text beyond the end", raw(b"X\x00\x10\x00\x00abc"), truncated),
        ("no end", raw(b"N"), truncated),
        ("nothing", vec![], truncated),
    ];
    let many = |one: &[u8], n: usize, end: &[u8]| [one.repeat(n), end.to_vec()].concat();
    all.push(("nested lists", many(b"]", 100_000, b"."), limit));
    all.push((
        "nested tuples",
        many(b"\x85", 100_000, b".").into_iter().rev().collect::<Vec<_>>(),
        malformed,
    ));
    all.push(("tuples in tuples", [b"N".to_vec(), many(b"\x85", 100_000, b".")].concat(), limit));
    all.push(("nested marks", many(b"(", 100_000, b"."), limit));
    all.push(("a deep stack", many(b"N", 100_000, b"."), limit));
    all.push(("a long name", [b"c".to_vec(), many(b"a", 100_000, b"\nb\n.")].concat(), limit));
    all.push(("many small objects", many(b"}0", 600_000, b"N."), limit));
    all.push((
        "many memory slots",
        [b"N".to_vec(), (0..900_000u32).flat_map(|i| [&[b'r'][..], &i.to_le_bytes()].concat()).collect()]
            .concat(),
        limit,
    ));
    // Each list holds the one before 40 times: 40^12 values if they were written out.
    let mut bomb = b"]".to_vec();
    for i in 0..12u8 {
        bomb.extend([b'q', i, b'0', b']', b'(']);
        bomb.extend([b'h', i].repeat(40));
        bomb.push(b'e');
    }
    let mut shared = b"}X\x05\x00\x00\x00model}X\x01\x00\x00\x00a".to_vec();
    shared.extend(&bomb);
    shared.extend(b"ss.");
    all.push(("a memo bomb", shared, |e| matches!(e, CheckpointError::NoWeights(_))));
    all
}

#[test]
fn every_malicious_pickle_is_refused_in_every_container() {
    for (name, opcodes, expected) in corpus() {
        let bytes = [&[0x80, 2][..], &opcodes].concat();
        for (form, file) in [
            ("zip", container(&bytes, &[], "little")),
            ("deflated zip", container_with(&bytes, &[], "little", zip::CompressionMethod::Deflated)),
            ("legacy", legacy(&bytes, &[])),
        ] {
            let error = read_bytes(&file).expect_err(name);
            // In the legacy stream the next pickle is read as the continuation of one without an end.
            let runs_on = form == "legacy" && matches!(name, "a text beyond the end" | "no end" | "nothing");
            assert!(expected(&error) || runs_on, "{name} in {form}: {error}");
        }
    }
}

#[test]
fn a_refusal_names_the_global_and_the_reason() {
    let pickle = b"\x80\x02}U\x01acos\nsystem\nU\x02id\x85Rs.";
    let message = load(&mut &pickle[..]).unwrap_err().to_string();
    assert!(message.contains("os.system") && message.contains("can run commands"), "{message}");
    assert!(message.contains("safetensors"), "{message}");
}

#[test]
fn settings_that_explode_when_written_out_are_refused() {
    // yaml = 30 levels of a dictionary that holds the one below twice.
    let weight = tensor("FloatStorage", "0", 1, 0, &[1], &[1]);
    let model = module(
        ("ultralytics.nn.tasks", "DetectionModel"),
        &[("w", weight)],
        &[],
        &[],
        &[("yaml", Item::Int(77))],
    );
    let plain = pickle(&model);
    let mut yaml = b"}".to_vec();
    for i in 0..30u8 {
        yaml.extend([b'q', 100 + i, b'0', b'}', b'(', b'K', 0, b'h', 100 + i, b'K', 1, b'h', 100 + i, b'u']);
    }
    let marker = [b'J', 77, 0, 0, 0];
    let at = plain.windows(5).position(|w| w == marker).unwrap();
    let bomb = [&plain[..at], &yaml, &plain[at + 5..]].concat();
    let error = read_bytes(&container(&bomb, &[("0", &[0; 4])], "little")).unwrap_err();
    assert!(limit(&error), "{error}");
}

#[test]
fn modules_that_hold_themselves_are_refused() {
    // _modules[a] = the module itself, by its place in the memory.
    let mut raw = b"\x80\x02ctorch.nn\nModule\n)\x81q\x00}(".to_vec();
    for name in ["_parameters", "_buffers"] {
        raw.extend([b'U', u8::try_from(name.len()).unwrap()]);
        raw.extend(name.bytes());
        raw.push(b'}');
    }
    raw.extend(b"U\x08_modules}U\x01ah\x00sub.");
    let error = read_bytes(&container(&raw, &[], "little")).unwrap_err();
    assert!(limit(&error), "{error}");
}

#[test]
fn one_large_module_shared_a_thousand_times_is_refused() {
    let large: Vec<(String, Item)> = (0..4000).map(|i| (format!("a{i}"), Item::None)).collect();
    let large: Vec<(&str, Item)> = large.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    let child = pickle(&module(("torch.nn", "Module"), &[], &[], &[], &large));
    // The child stays in the memory, and is then a thousand modules of its parent.
    let mut raw = child[..child.len() - 1].to_vec();
    raw.extend(b"q\x000ctorch.nn\nModule\n)\x81}(U\x0b_parameters}U\x08_buffers}U\x08_modules}(");
    for i in 0..1000 {
        raw.extend(b"X\x04\x00\x00\x00");
        raw.extend(format!("{i:04}").bytes());
        raw.extend(b"h\x00");
    }
    raw.extend(b"uub.");
    let error = read_bytes(&container(&raw, &[], "little")).unwrap_err();
    assert!(matches!(&error, CheckpointError::Limit { what, .. } if what.contains("attributes")), "{error}");
}
