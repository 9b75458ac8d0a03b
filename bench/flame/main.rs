//! Draws a flamegraph: `perf script | osmia-flame TITLE > flamegraph.svg`.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::ExitCode;

use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph::{self, Options};

fn main() -> ExitCode {
    let title = std::env::args().nth(1).unwrap_or_else(|| "Osmia".into());
    match draw(io::stdin().lock(), io::stdout().lock(), title) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("osmia-flame: cannot draw the samples: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(samples: impl Read, out: impl Write, title: String) -> io::Result<()> {
    let mut folded = Vec::new();
    Folder::default().collapse(BufReader::new(samples), &mut folded)?;
    let mut options = Options::default();
    options.title = title;
    options.count_name = "samples".into();
    flamegraph::from_reader(&mut options, folded.as_slice(), BufWriter::new(out))
        .map_err(io::Error::other)
}
