//! Draws a flamegraph: `perf script | osmia-flame TITLE UNIT > flamegraph.svg`.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::ExitCode;

use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph::{self, Options};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let title = arguments.next().unwrap_or_else(|| "Osmia".into());
    let unit = arguments.next().unwrap_or_else(|| "samples".into());
    match draw(io::stdin().lock(), io::stdout().lock(), title, unit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("osmia-flame: cannot draw the samples: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(samples: impl Read, out: impl Write, title: String, unit: String) -> io::Result<()> {
    let mut folded = Vec::new();
    Folder::default().collapse(BufReader::new(samples), &mut folded)?;
    let mut options = Options::default();
    options.title = title;
    options.count_name = unit;
    flamegraph::from_reader(&mut options, folded.as_slice(), BufWriter::new(out))
        .map_err(io::Error::other)
}
