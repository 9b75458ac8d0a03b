//! Whether a protocol buffer definition compiles.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::{Compiler, Error};

/// The name that the definition has for the compiler.
const NAME: &str = "content.proto";

/// Longest description of a failure, in characters.
const REASON_CHARS: usize = 300;

/// Compiles the text of a `.proto` file, or else takes it for a `FileDescriptorSet` in base64 (the
/// output of `protoc --descriptor_set_out`). It may import what comes with protocol buffers
/// (`google/protobuf/*.proto`), but no other file.
pub(super) fn compile(content: &str) -> Result<(), String> {
    let Err(error) = compile_text(content) else { return Ok(()) };
    let set = STANDARD.decode(content.trim()).ok();
    if set.is_some_and(|bytes| {
        protox::prost_reflect::DescriptorPool::decode(bytes.as_slice()).is_ok()
    }) {
        return Ok(());
    }
    let reason: String = error.to_string().chars().take(REASON_CHARS).collect();
    Err(format!("invalid content: {reason}"))
}

fn compile_text(content: &str) -> Result<(), Error> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(OneFile(content.to_owned()));
    resolver.add(GoogleFileResolver::new());
    Compiler::with_file_resolver(resolver).open_file(NAME).map(drop)
}

/// The definition itself as the only file.
struct OneFile(String);

impl FileResolver for OneFile {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        (path == Path::new(NAME)).then(|| NAME.to_owned())
    }

    fn open_file(&self, name: &str) -> Result<File, Error> {
        if name == NAME {
            File::from_source(name, &self.0)
        } else {
            Err(Error::file_not_found(name))
        }
    }
}
