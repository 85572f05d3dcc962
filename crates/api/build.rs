//! Compiles the .proto files. The parser (protox) is written in Rust, so that a build needs no `protoc`.

use std::error::Error;

use prost_types::FileDescriptorSet;

const PROTO_FOLDER: &str = "proto";
const PROTO_FILES: [&str; 2] = ["proto/rpc.proto", "proto/peer.proto"];

/// Fields whose names in etcd's files would come out mangled (`peer_ur_ls`). Names are not on the wire.
const RENAMED: [(&str, &str); 2] = [("peerURLs", "peer_urls"), ("clientURLs", "client_urls")];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_FOLDER}");
    let mut files = protox::compile(PROTO_FILES, [PROTO_FOLDER])?;
    rename_fields(&mut files);
    tonic_prost_build::configure()
        // Keys and values stay slices of the buffer that they arrived in.
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}

fn rename_fields(files: &mut FileDescriptorSet) {
    let messages = files.file.iter_mut().flat_map(|file| &mut file.message_type);
    for field in messages.flat_map(|message| &mut message.field) {
        if let Some((_, name)) = RENAMED.iter().find(|(from, _)| *from == field.name()) {
            field.name = Some((*name).to_owned());
        }
    }
}
