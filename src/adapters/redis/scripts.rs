//! The scripts, each with what it is given and gives in its own file. Those that touch lists share
//! `ring.lua`.

use std::sync::LazyLock;

use redis::Cmd;

/// A text that servers run, known to them by its hash once it was loaded.
pub(super) struct Script {
    code: String,
    hash: String,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let code = parts.concat();
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Runs the script; keys and arguments follow.
    pub(super) fn run(&self, keys: &[&str]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.hash).arg(keys.len()).arg(keys);
        cmd
    }

    /// Makes the script known to a server.
    pub(super) fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(&self.code);
        cmd
    }
}

/// All scripts.
pub(super) struct Scripts {
    pub(super) push: Script,
    pub(super) push_many: Script,
    pub(super) begin_fill: Script,
    pub(super) finish_fill: Script,
    pub(super) page: Script,
    pub(super) list: Script,
    pub(super) relations_begin: Script,
    pub(super) relations_finish: Script,
    pub(super) body_fill: Script,
    pub(super) limit: Script,
}

impl Scripts {
    /// All of them.
    pub(super) const fn all(&self) -> [&Script; 10] {
        [
            &self.push,
            &self.push_many,
            &self.begin_fill,
            &self.finish_fill,
            &self.page,
            &self.list,
            &self.relations_begin,
            &self.relations_finish,
            &self.body_fill,
            &self.limit,
        ]
    }
}

/// All scripts, hashed once.
pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| {
    let ring = include_str!("scripts/ring.lua");
    Scripts {
        push: Script::new(&[ring, include_str!("scripts/push.lua")]),
        push_many: Script::new(&[ring, include_str!("scripts/push_many.lua")]),
        begin_fill: Script::new(&[ring, include_str!("scripts/begin_fill.lua")]),
        finish_fill: Script::new(&[ring, include_str!("scripts/finish_fill.lua")]),
        page: Script::new(&[ring, include_str!("scripts/page.lua")]),
        list: Script::new(&[ring, include_str!("scripts/list.lua")]),
        relations_begin: Script::new(&[include_str!("scripts/relations_begin.lua")]),
        relations_finish: Script::new(&[include_str!("scripts/relations_finish.lua")]),
        body_fill: Script::new(&[include_str!("scripts/body_fill.lua")]),
        limit: Script::new(&[include_str!("scripts/limit.lua")]),
    }
});
