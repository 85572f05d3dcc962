//! The .proto files say what etcd's say: every message and service that is declared has all of its fields and
//! calls, with etcd's numbers, names and types. `etcd_3_7_3_fields.tsv` was taken from etcd's own files.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, ServiceDescriptorProto};

const OF_ETCD: &str = include_str!("etcd_3_7_3_fields.tsv");

/// The lines of one message, enum or service, by its name.
type Declarations = BTreeMap<String, BTreeSet<String>>;

fn of_etcd() -> Declarations {
    let mut declarations = Declarations::new();
    for line in OF_ETCD.lines() {
        let (owner, rest) = line.split_once('\t').expect("columns");
        declarations.entry(owner.to_owned()).or_default().insert(rest.to_owned());
    }
    declarations
}

fn of_ours() -> Declarations {
    let files = protox::compile(["proto/rpc.proto"], ["proto"]).expect("the files compile");
    let mut declarations = Declarations::new();
    for file in &files.file {
        file.message_type.iter().for_each(|message| add_message(&mut declarations, "", message));
        file.enum_type.iter().for_each(|values| add_enum(&mut declarations, "", values));
        file.service.iter().for_each(|service| add_service(&mut declarations, service));
    }
    declarations
}

fn add_message(declarations: &mut Declarations, parent: &str, message: &DescriptorProto) {
    let name = format!("{parent}{}", message.name());
    let inside = format!("{name}.");
    message.nested_type.iter().for_each(|nested| add_message(declarations, &inside, nested));
    message.enum_type.iter().for_each(|values| add_enum(declarations, &inside, values));
    let fields = message.field.iter().map(field_line).collect::<BTreeSet<_>>();
    // A message without fields (`StatusRequest`) has no lines in the recorded table either.
    if !fields.is_empty() {
        declarations.insert(name, fields);
    }
}

fn field_line(field: &FieldDescriptorProto) -> String {
    let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
    let kind = match field.r#type() {
        Type::Bytes => "bytes",
        Type::String => "string",
        Type::Bool => "bool",
        Type::Int64 => "int64",
        Type::Uint64 => "uint64",
        Type::Uint32 => "uint32",
        Type::Message | Type::Enum => field.type_name().rsplit('.').next().unwrap_or_default(),
        other => panic!("{} has type {other:?}, which etcd never uses", field.name()),
    };
    format!("{}\t{}\t{repeated}{kind}", field.number(), field.name())
}

fn add_enum(declarations: &mut Declarations, parent: &str, values: &EnumDescriptorProto) {
    let lines = values.value.iter().map(|value| format!("{}\t{}\tenum", value.number(), value.name()));
    declarations.insert(format!("{parent}{}", values.name()), lines.collect());
}

fn add_service(declarations: &mut Declarations, service: &ServiceDescriptorProto) {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let stream = |yes: bool| if yes { "stream " } else { "" };
    let lines = service.method.iter().map(|method| {
        let input = format!("{}{}", stream(method.client_streaming()), last(method.input_type()));
        let output = format!("{}{}", stream(method.server_streaming()), last(method.output_type()));
        format!("{}\t{input}\t{output}", method.name())
    });
    declarations.insert(format!("rpc {}", service.name()), lines.collect());
}

#[test]
fn everything_declared_is_declared_as_in_etcd() {
    let of_etcd = of_etcd();
    let of_ours = of_ours();
    assert!(of_ours.len() > 40, "only {} declarations were found", of_ours.len());
    for (name, lines) in &of_ours {
        assert_eq!(Some(lines), of_etcd.get(name), "{name}");
    }
}

#[test]
fn the_services_of_this_release_are_declared() {
    let ours = of_ours();
    let services: Vec<_> = ours.keys().filter_map(|name| name.strip_prefix("rpc ")).collect();
    assert_eq!(services, ["Cluster", "KV", "Maintenance"]);
}
