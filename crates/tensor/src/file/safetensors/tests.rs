//! Round trips, the reference library's opinion, and shards.

use super::*;

fn seed() -> Vec<u8> {
    let numbers: Vec<u8> = (0..96u8).collect();
    let tensors = [
        ("a.weight", DType::F32, &[2usize, 3][..], &numbers[..24]),
        ("b", DType::Bf16, &[4], &numbers[24..32]),
        ("empty", DType::F16, &[0, 7], &[]),
        ("scalar", DType::I64, &[], &numbers[32..40]),
        ("bytes", DType::U8, &[3], &numbers[40..43]),
    ];
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    bytes(Path::new("seed"), tensors, metadata).expect("all types have a form")
}

#[test]
fn what_is_written_is_read_back() {
    let path = std::env::temp_dir().join(format!("rondo-safetensors-{}.safetensors", std::process::id()));
    let data = [1.0f32, -2.5, 3.25, 0.0, 5.0, 6.0];
    let bytes = bytemuck::cast_slice(&data);
    write(&path, [("a.weight", DType::F32, &[2usize, 3][..], bytes)], BTreeMap::new()).expect("it can be written");
    let back = read(&path).expect("it is a good file");
    assert_eq!(back["a.weight"], Stored { dtype: DType::F32, shape: [2, 3].into(), bytes: bytes.to_vec() });
    let file = File::open(&path).expect("it is a good file");
    let (tensor, there) = file.tensor("a.weight").expect("it is there");
    assert_eq!((&tensor.shape[..], there), (&[2, 3][..], bytes));
    std::fs::write(&path, b"short").expect("it can be written");
    assert!(matches!(read(&path), Err(Error::Format { .. })));
    std::fs::remove_file(&path).expect("it is there");
}

#[test]
fn the_reference_library_reads_and_writes_the_same() {
    let ours = seed();
    let theirs = ::safetensors::SafeTensors::deserialize(&ours).expect("the library takes what is written");
    let head = head(&ours).expect("it is a good file");
    assert_eq!(head.tensors.len(), theirs.len());
    for tensor in &head.tensors {
        let view = theirs.tensor(&tensor.name).expect("it is there");
        assert_eq!(view.shape(), &tensor.shape[..]);
        assert_eq!(view.data(), &ours[tensor.offset as usize..][..tensor.bytes as usize]);
    }
    let again = ::safetensors::serialize(theirs.iter(), Some([("format".into(), "pt".into())].into()));
    assert_eq!(again.expect("the library writes"), ours);
}

/// Whatever the library refuses is refused here, and what is accepted here reads the same there.
#[test]
fn nothing_is_taken_that_the_reference_library_refuses() {
    let seed = seed();
    let random = crate::rng::Philox::new(7, "safetensors mutations");
    let mut drawn = 0;
    let mut below = |bound: usize| {
        drawn += 1;
        random.below(drawn, bound as u32) as usize
    };
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut file = seed.clone();
        for _ in 0..1 + below(3) {
            let at = below(file.len() + 1);
            match below(4) {
                0 => file.truncate(at.max(1)),
                1 => file.insert(at.min(file.len()), b"{}[]\",:0123456789eE-. \0"[below(23)]),
                2 if at < file.len() => drop(file.remove(at)),
                _ if at < file.len() => file[at] = b"{}[]\",:0123456789eE-. \xff"[below(23)],
                _ => {}
            }
            if file.is_empty() {
                file.push(0);
            }
        }
        match (head(&file), ::safetensors::SafeTensors::deserialize(&file)) {
            (Ok(head), Ok(theirs)) => {
                assert_eq!(head.tensors.len(), theirs.len());
                taken += 1;
            }
            (Ok(_), Err(e)) => panic!("taken, and refused by the library: {e}: {:?}", String::from_utf8_lossy(&file)),
            (Err(problem), _) => {
                assert!(problem.offset <= file.len() as u64, "{problem}");
                refused += 1;
            }
        }
    }
    assert!(taken > 100 && refused > 1000, "{taken} taken, {refused} refused: the test can't fail");
}

/// A folder of its own for a test, removed at its end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("rondo-safetensors-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Folder(path)
    }

    fn shard(&self, name: &str, tensors: &[&str]) {
        let tensors = tensors.iter().map(|name| (*name, DType::F32, &[1usize][..], &[1u8, 2, 3, 4][..]));
        write(&self.0.join(name), tensors, BTreeMap::new()).expect("it can be written");
    }

    fn index(&self, text: &str) {
        std::fs::write(self.0.join(INDEX), text).expect("it can be written");
    }

    fn refused(&self, expected: &str) {
        let error = File::open(&self.0).expect_err("the shards are not good").to_string();
        assert!(error.contains(expected) && error.contains("help: "), "{error}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn shards_are_one_model() {
    let folder = Folder::new("shards");
    let planned = |name: &str| Planned { name: name.into(), dtype: DType::F32, shape: [1].into() };
    let shards = [vec![planned("a"), planned("b")], vec![planned("c")]];
    folder.index(&index(&shards));
    folder.shard(&shard_name(1, 2), &["a", "b"]);
    folder.shard(&shard_name(2, 2), &["c"]);
    let file = File::open(&folder.0).expect("the shards are good");
    assert_eq!(file.tensors().len(), 3);
    assert_eq!(file.tensors().path_of("c"), Some(folder.0.join(shard_name(2, 2)).as_path()));

    // The index and the shards disagree.
    folder.shard(&shard_name(2, 2), &["c", "d"]);
    folder.refused("tensor `d`: it is in this shard; the index doesn't name it");
    folder.shard(&shard_name(2, 2), &["a", "c"]);
    folder.refused("the index says that it is in model-00001-of-00002");
    folder.shard(&shard_name(2, 2), &[]);
    folder.refused("tensor `c` is not in model-00002-of-00002.safetensors");
    std::fs::remove_file(folder.0.join(shard_name(2, 2))).expect("it is there");
    folder.refused("model-00002-of-00002.safetensors: this shard, which the index names, is missing");

    // Names that lead elsewhere.
    for name in ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b.safetensors", "C:x", "a\\\\b", "a\\u0000"] {
        folder.index(&format!("{{\"weight_map\": {{\"a\": \"{name}\"}}}}"));
        folder.refused("a shard is a file beside the index");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/passwd", folder.0.join("link")).expect("links can be made");
        folder.index("{\"weight_map\": {\"a\": \"link\"}}");
        folder.refused("a link that leads out of the folder, to /etc/passwd");
    }
    for (text, expected) in
        [("{", "EOF"), ("[]", "the index"), ("{}", "weight_map"), ("{\"weight_map\": {\"a\": 5}}", "integer `5`")]
    {
        folder.index(text);
        folder.refused(expected);
    }
    std::fs::remove_file(folder.0.join(INDEX)).expect("it is there");
    folder.refused("neither it nor model.safetensors.index.json is there");
    std::fs::write(folder.0.join("pytorch_model.bin"), b"").expect("it can be written");
    folder.refused("pytorch_model.bin is, a PyTorch file");
}

/// Folders as the caches of Hugging Face's tools are: links to files named by their hashes.
#[cfg(unix)]
#[test]
fn links_into_a_cache_are_followed() {
    let repository = Folder::new("cache");
    let snapshot = repository.0.join("snapshots").join("0123");
    std::fs::create_dir_all(&snapshot).expect("folders can be made");
    std::fs::create_dir_all(repository.0.join("blobs")).expect("folders can be made");
    repository.shard("blobs/abcd", &["a"]);
    std::os::unix::fs::symlink("../../blobs/abcd", snapshot.join("x.safetensors")).expect("links can be made");
    std::fs::write(snapshot.join(INDEX), "{\"weight_map\": {\"a\": \"x.safetensors\"}}").expect("it can be written");
    assert_eq!(File::open(&snapshot).expect("the link leads to a blob").tensors().len(), 1);
}
