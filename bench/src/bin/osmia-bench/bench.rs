//! What all parts share: the plan, the programs, the upstream, and whose turn it is.

use std::net::SocketAddr;

use anyhow::Result;

use crate::contender::{self, Contender, Protocols, Started, Upstream};
use crate::machine::{self, Cores};
use crate::plan::Plan;
use crate::programs::{self, Programs};

/// A comparison under way.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) programs: Programs,
    pub(crate) cores: Cores,
    /// Those that are there.
    pub(crate) contenders: Vec<Contender>,
    /// What the reader of the results has to know: who is missing, what failed.
    pub(crate) notices: Vec<String>,
    upstream: Upstream,
}

impl Bench {
    /// Finds programs, pins the harness to the load cores and starts the upstream.
    pub(crate) fn prepare(plan: Plan) -> Result<Self> {
        let programs = Programs::find(plan.common.osmia.as_deref(), plan.baseline.as_deref());
        let cores = Cores::choose(plan.common.proxy_core)?;
        machine::pin(&cores.load)?;
        let upstream = Upstream::start(&programs, &cores.load)?;
        let mut bench =
            Self { plan, programs, cores, contenders: Vec::new(), notices: Vec::new(), upstream };
        if bench.cores.shared() {
            bench.notice("proxy and load share the only core: the figures say little".into());
        }
        for contender in bench.plan.contenders() {
            if bench.programs.path(contender).is_some() {
                bench.contenders.push(contender);
            } else {
                let advice = programs::advice(contender);
                bench.notice(format!("{} is left out: {advice}", contender.name()));
            }
        }
        anyhow::ensure!(!bench.contenders.is_empty(), "there is nobody to measure");
        Ok(bench)
    }

    /// Prints a notice and keeps it for the report.
    pub(crate) fn notice(&mut self, text: String) {
        println!("note: {text}");
        self.notices.push(text);
    }

    /// Indexes of the contenders in this round's order: rotated, so that nobody always comes
    /// after the same one.
    pub(crate) fn turns(&self, round: usize) -> Vec<usize> {
        let count = self.contenders.len();
        (0..count).map(|turn| (turn + round) % count).collect()
    }

    /// Where contenders forward to.
    pub(crate) fn upstream(&self) -> SocketAddr {
        self.upstream.addr
    }

    /// Starts a contender, measures it, ends it. A failure is noted; the others go on.
    pub(crate) fn attempt<T>(
        &mut self,
        contender: Contender,
        what: &str,
        measure: impl FnOnce(&Self, &Started) -> Result<T>,
    ) -> Option<T> {
        self.attempt_with(None, contender, what, measure)
    }

    /// As [`Bench::attempt`], with all protocols when they are given.
    pub(crate) fn attempt_with<T>(
        &mut self,
        protocols: Option<&Protocols>,
        contender: Contender,
        what: &str,
        measure: impl FnOnce(&Self, &Started) -> Result<T>,
    ) -> Option<T> {
        match self.start(contender, protocols).and_then(|started| measure(self, &started)) {
            Ok(figures) => Some(figures),
            Err(error) => {
                self.notice(format!("{} ({what}) failed: {error:#}", contender.name()));
                None
            }
        }
    }

    fn start(&mut self, contender: Contender, protocols: Option<&Protocols>) -> Result<Started> {
        if !self.upstream.is_alive() {
            self.notice("the upstream had been ended by somebody and was started again".into());
            self.upstream = Upstream::start(&self.programs, &self.cores.load)?;
        }
        contender::start(contender, &self.programs, self.upstream(), self.cores.proxy, protocols)
    }
}
