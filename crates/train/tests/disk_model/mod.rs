//! A disk that forgets what wasn't synced: recorded operations, and what of them may be there after a loss of power
//! (the model of Pillai et al., "All file systems are not created equal", 2014: unsynced changes of contents and of each
//! folder's entries reach the disk or not, in any combination).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tensor::file::disk::Operation;
use tensor::rng::Philox;

/// What is lost of the changes that weren't synced.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// All of them.
    Everything,
    /// Contents of files, but no entry of a folder.
    Contents,
    /// None: the process was killed, the power stayed.
    Nothing,
    /// Some, drawn with this seed.
    Some(u64),
}

#[derive(Clone)]
enum Event {
    CreateFolder(PathBuf),
    Create(PathBuf),
    Write(PathBuf, Vec<u8>),
    SyncFile(PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Acknowledged(usize),
}

/// The operations under a folder that is empty and durable at the beginning.
pub struct Disk {
    base: PathBuf,
    events: Vec<Event>,
}

impl Disk {
    pub fn new(base: &Path) -> Disk {
        Disk { base: base.into(), events: Vec::new() }
    }

    pub fn add(&mut self, operation: Operation<'_>) {
        let own = |path: &Path| path.strip_prefix(&self.base).unwrap().to_path_buf();
        let event = match operation {
            Operation::CreateFolder(p) => Event::CreateFolder(own(p)),
            Operation::Create(p) => Event::Create(own(p)),
            Operation::Open(_) => return,
            Operation::Write(p, bytes) => Event::Write(own(p), bytes.to_vec()),
            Operation::SyncFile(p) => Event::SyncFile(own(p)),
            Operation::SyncFolder(p) => Event::SyncFolder(own(p)),
            Operation::Rename(a, b) => Event::Rename(own(a), own(b)),
            Operation::RemoveFile(p) | Operation::RemoveFolder(p) => Event::Remove(own(p)),
        };
        self.events.push(event);
    }

    /// The caller was told that a step is saved.
    pub fn acknowledge(&mut self, step: usize) {
        self.events.push(Event::Acknowledged(step));
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Makes in `folder` what may be there when the power goes after `length` events, and answers the step that was
    /// acknowledged last.
    pub fn after(&self, length: usize, loss: Loss, folder: &Path) -> usize {
        let mut nodes = vec![Node::Folder(Folder::default())];
        let mut acknowledged = 0;
        for event in &self.events[..length] {
            match event {
                Event::Acknowledged(step) => acknowledged = *step,
                event => apply(&mut nodes, event),
            }
        }
        let mut draw = Draw { loss, rng: Philox::new(seed(loss), "power"), next: length as u64 * 1000 };
        leave(&nodes, 0, folder, &mut draw);
        acknowledged
    }
}

fn seed(loss: Loss) -> u64 {
    if let Loss::Some(seed) = loss { seed } else { 0 }
}

enum Node {
    Folder(Folder),
    File { now: Vec<u8>, durable: Vec<u8> },
}

#[derive(Default)]
struct Folder {
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<Change>,
}

/// A change of a folder's entries.
#[derive(Clone)]
enum Change {
    Add(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, usize>) {
        match self {
            Change::Add(name, node) => drop(entries.insert(name.clone(), *node)),
            Change::Remove(name) => drop(entries.remove(name)),
            Change::Rename(from, to, node) => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().into()
}

fn find(nodes: &[Node], path: &Path) -> usize {
    path.iter().fold(0, |at, name| match &nodes[at] {
        Node::Folder(folder) => folder.now[name.to_str().unwrap()],
        Node::File { .. } => panic!("{} is a file", path.display()),
    })
}

fn folder_of<'a>(nodes: &'a mut [Node], path: &Path) -> &'a mut Folder {
    let at = find(nodes, path);
    match &mut nodes[at] {
        Node::Folder(folder) => folder,
        Node::File { .. } => panic!("{} is a file", path.display()),
    }
}

fn change(nodes: &mut [Node], folder: &Path, change: Change) {
    let folder = folder_of(nodes, folder);
    change.apply(&mut folder.now);
    folder.pending.push(change);
}

fn apply(nodes: &mut Vec<Node>, event: &Event) {
    let above = |path: &Path| path.parent().unwrap().to_path_buf();
    match event {
        Event::CreateFolder(path) => {
            nodes.push(Node::Folder(Folder::default()));
            let new = nodes.len() - 1;
            change(nodes, &above(path), Change::Add(name(path), new));
        }
        Event::Create(path) => {
            if let Some(there) = folder_of(nodes, &above(path)).now.get(&name(path)).copied() {
                if let Node::File { now, .. } = &mut nodes[there] {
                    now.clear();
                }
                return;
            }
            nodes.push(Node::File { now: Vec::new(), durable: Vec::new() });
            let new = nodes.len() - 1;
            change(nodes, &above(path), Change::Add(name(path), new));
        }
        Event::Write(path, bytes) => {
            let at = find(nodes, path);
            if let Node::File { now, .. } = &mut nodes[at] {
                now.extend_from_slice(bytes);
            }
        }
        Event::SyncFile(path) => {
            let at = find(nodes, path);
            if let Node::File { now, durable } = &mut nodes[at] {
                durable.clone_from(now);
            }
        }
        Event::SyncFolder(path) => {
            let folder = folder_of(nodes, path);
            folder.durable.clone_from(&folder.now);
            folder.pending.clear();
        }
        Event::Rename(from, to) => {
            assert_eq!(above(from), above(to), "a save renames within a folder");
            let node = find(nodes, from);
            change(nodes, &above(from), Change::Rename(name(from), name(to), node));
        }
        Event::Remove(path) => change(nodes, &above(path), Change::Remove(name(path))),
        Event::Acknowledged(_) => {}
    }
}

struct Draw {
    loss: Loss,
    rng: Philox,
    next: u64,
}

impl Draw {
    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next += 1;
        (u64::from(self.rng.block(self.next)[0]) * n) >> 32
    }

    fn keeps_entry(&mut self) -> bool {
        match self.loss {
            Loss::Everything => false,
            Loss::Contents | Loss::Nothing => true,
            Loss::Some(_) => self.below(2) == 0,
        }
    }

    fn contents(&mut self, now: &[u8], durable: &[u8]) -> Vec<u8> {
        match self.loss {
            Loss::Everything | Loss::Contents => durable.to_vec(),
            Loss::Nothing => now.to_vec(),
            Loss::Some(_) if now == durable => now.to_vec(),
            Loss::Some(_) => match self.below(4) {
                0 => durable.to_vec(),
                1 => now.to_vec(),
                2 => {
                    let synced = if now.starts_with(durable) { durable.len() } else { 0 };
                    now[..synced + self.below((now.len() - synced) as u64 + 1) as usize].to_vec()
                }
                // The length has reached the disk, the contents have not.
                _ => durable.iter().copied().chain(std::iter::repeat(0)).take(now.len()).collect(),
            },
        }
    }
}

fn leave(nodes: &[Node], at: usize, path: &Path, draw: &mut Draw) {
    match &nodes[at] {
        Node::File { now, durable } => fs::write(path, draw.contents(now, durable)).unwrap(),
        Node::Folder(folder) => {
            fs::create_dir(path).unwrap();
            let mut entries = folder.durable.clone();
            for change in &folder.pending {
                if draw.keeps_entry() {
                    change.apply(&mut entries);
                }
            }
            for (name, node) in entries {
                leave(nodes, node, &path.join(name), draw);
            }
        }
    }
}
