//! Fixed answers and what etcdctl 3.7.3 printed for them, recorded against an etcd 3.7.3 that gave them.

use std::time::Duration;

use tenure_api::pb::etcdserverpb::response_op::Response;
use tenure_api::pb::etcdserverpb::{DowngradeInfo, Member, ResponseHeader, ResponseOp};
use tenure_api::pb::mvccpb::KeyValue;

use super::*;
use crate::client::options::tests::defaults;

const HEADER: ResponseHeader = ResponseHeader {
    cluster_id: 324_952_591_200_643_719,
    member_id: 3_319_814_642_761_637_952,
    revision: 14,
    raft_term: 2,
};
const HEADER_JSON: &str = r#""header":{"cluster_id":324952591200643719,"member_id":3319814642761637952,"revision":14,"raft_term":2}"#;
const HEADER_FIELDS: &str = "\"ClusterID\" : 324952591200643719\n\"MemberID\" : 3319814642761637952\n\"Revision\" : 14\n\"RaftTerm\" : 2\n";
const HEADER_HEX_FIELDS: &str =
    "\"ClusterID\" : 48276a8f75b6a87\n\"MemberID\" : 2e1259d415f2a040\n\"Revision\" : 14\n\"RaftTerm\" : 2\n";

fn options(write_out: Format, hex: bool) -> Options {
    Options { write_out, hex, ..defaults() }
}

fn kv_printer(write_out: Format, hex: bool) -> KvPrinter {
    KvPrinter::new(&options(write_out, hex)).expect("a format for keys")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("only UTF-8 in these answers")
}

fn pair() -> KeyValue {
    KeyValue {
        key: "foo".into(),
        create_revision: 2,
        mod_revision: 4,
        version: 3,
        value: "bar3".into(),
        lease: 0,
    }
}

fn range() -> RangeResponse {
    RangeResponse { header: Some(HEADER), kvs: vec![pair()], more: false, count: 1 }
}

fn endpoint_printer(format: Format) -> EndpointPrinter {
    EndpointPrinter::new(&options(format, false)).expect("a format of endpoints")
}

#[test]
fn the_health_of_endpoints() {
    let health = |endpoint: &str, error: Option<&str>| Health {
        endpoint: endpoint.to_owned(),
        took: Duration::from_micros(1500),
        error: error.map(str::to_owned),
    };
    let answers = [health("a:1", None), health("b:1", Some("context deadline exceeded"))];
    let printed = |format| {
        let (output, errors) = endpoint_printer(format).health(&answers);
        (text(output), text(errors))
    };
    let (output, errors) = printed(Format::Simple);
    assert_eq!(output, "a:1 is healthy: successfully committed proposal: took = 1.5ms\n");
    assert_eq!(errors, "b:1 is unhealthy: failed to commit proposal: context deadline exceeded\n");
    let (output, errors) = printed(Format::Json);
    let json = r#"[{"endpoint":"a:1","health":true,"took":"1.5ms"},{"endpoint":"b:1","health":false,"took":"1.5ms","error":"context deadline exceeded"}]"#;
    assert_eq!((output.trim_end(), errors.as_str()), (json, ""));
    let fields = "\"Endpoint\" : \"a:1\"\n\"Health\" : true\n\"Took\" : 1.5ms\n\"Error\" : \n\n";
    assert!(printed(Format::Fields).0.starts_with(fields));
    let table = printed(Format::Table).0;
    assert!(table.contains("│ ENDPOINT │ HEALTH │ TOOK  │           ERROR           │"), "{table}");
    assert!(table.contains("│      a:1 │   true │ 1.5ms │                           │"), "{table}");
}

#[test]
fn protobuf_is_the_message_as_it_came() {
    let response =
        PutResponse { header: Some(ResponseHeader { revision: 7, ..Default::default() }), prev_kv: None };
    let printer = KvPrinter::new(&options(Format::Protobuf, false)).expect("a format of keys");
    assert_eq!(printer.put(&response), response.encode_to_vec());
    let refused =
        EndpointPrinter::new(&options(Format::Protobuf, false)).expect_err("no format of endpoints");
    assert_eq!(refused.exit_code, exit::BAD_FEATURE);
}

#[test]
fn get() {
    let simple = text(kv_printer(Format::Simple, false).get(&range()));
    assert_eq!(simple, "foo\nbar3\n");
    let hex = text(kv_printer(Format::Simple, true).get(&range()));
    assert_eq!(hex, "\\x66\\x6f\\x6f\n\\x62\\x61\\x72\\x33\n");
    let json = text(kv_printer(Format::Json, true).get(&range()));
    let kvs = r#""kvs":[{"key":"Zm9v","create_revision":2,"mod_revision":4,"version":3,"value":"YmFyMw=="}]"#;
    assert_eq!(json, format!("{{{HEADER_JSON},{kvs},\"count\":1}}\n"));
    let fields = text(kv_printer(Format::Fields, false).get(&range()));
    let pair = "\"Key\" : \"foo\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 4\n\"Version\" : 3\n\
                \"Value\" : \"bar3\"\n";
    let rest = "\"More\" : false\n\"Count\" : 1\n";
    assert_eq!(fields, format!("{HEADER_FIELDS}{pair}\"Lease\" : 0\n{rest}"));
    let fields = text(kv_printer(Format::Fields, true).get(&range()));
    assert_eq!(fields, format!("{HEADER_HEX_FIELDS}{pair}\"Lease\" : 0000000000000000\n{rest}"));
}

#[test]
fn get_of_nothing() {
    let nothing = RangeResponse { header: Some(HEADER), ..RangeResponse::default() };
    assert_eq!(text(kv_printer(Format::Simple, false).get(&nothing)), "");
    assert_eq!(text(kv_printer(Format::Json, false).get(&nothing)), format!("{{{HEADER_JSON}}}\n"));
}

#[test]
fn get_with_options_of_one_format() {
    let values_only = KvPrinter::for_get(&options(Format::Simple, false), false, true).expect("simple");
    assert_eq!(text(values_only.get(&range())), "bar3\n");
    assert!(KvPrinter::for_get(&options(Format::Fields, false), true, false).is_ok());
    for (format, count_only, values_only, exit_code) in [
        (Format::Simple, true, false, exit::BAD_ARGUMENTS),
        (Format::Json, true, false, exit::BAD_ARGUMENTS),
        (Format::Json, false, true, exit::BAD_ARGUMENTS),
        (Format::Fields, true, true, exit::BAD_ARGUMENTS),
        (Format::Table, false, false, exit::BAD_FEATURE),
    ] {
        let refused = KvPrinter::for_get(&options(format, false), count_only, values_only);
        assert_eq!(refused.expect_err("refused").exit_code, exit_code, "{format:?}");
    }
}

#[test]
fn bytes_go_out_as_they_are() {
    let response =
        RangeResponse { kvs: vec![KeyValue { value: (&b"\xff\0"[..]).into(), ..pair() }], ..range() };
    assert_eq!(kv_printer(Format::Simple, false).get(&response), b"foo\n\xff\0\n");
}

#[test]
fn put() {
    let nothing_before = PutResponse { header: Some(HEADER), prev_kv: None };
    let before = PutResponse { header: Some(HEADER), prev_kv: Some(pair()) };
    assert_eq!(text(kv_printer(Format::Simple, false).put(&nothing_before)), "OK\n");
    assert_eq!(text(kv_printer(Format::Simple, false).put(&before)), "OK\nfoo\nbar3\n");
    assert_eq!(text(kv_printer(Format::Json, false).put(&nothing_before)), format!("{{{HEADER_JSON}}}\n"));
    let prev =
        r#""prev_kv":{"key":"Zm9v","create_revision":2,"mod_revision":4,"version":3,"value":"YmFyMw=="}"#;
    assert_eq!(text(kv_printer(Format::Json, false).put(&before)), format!("{{{HEADER_JSON},{prev}}}\n"));
    let prev = "\"PrevKey\" : \"foo\"\n\"PrevCreateRevision\" : 2\n\"PrevModRevision\" : 4\n\
                \"PrevVersion\" : 3\n\"PrevValue\" : \"bar3\"\n\"PrevLease\" : 0\n";
    assert_eq!(text(kv_printer(Format::Fields, false).put(&before)), format!("{HEADER_FIELDS}{prev}"));
}

#[test]
fn del() {
    let one = DeleteRangeResponse { header: Some(HEADER), deleted: 1, prev_kvs: vec![pair()] };
    let none = DeleteRangeResponse { header: Some(HEADER), ..DeleteRangeResponse::default() };
    assert_eq!(text(kv_printer(Format::Simple, false).del(&one)), "1\nfoo\nbar3\n");
    assert_eq!(text(kv_printer(Format::Simple, false).del(&none)), "0\n");
    let prev =
        r#""prev_kvs":[{"key":"Zm9v","create_revision":2,"mod_revision":4,"version":3,"value":"YmFyMw=="}]"#;
    let json = text(kv_printer(Format::Json, false).del(&one));
    assert_eq!(json, format!("{{{HEADER_JSON},\"deleted\":1,{prev}}}\n"));
    assert_eq!(text(kv_printer(Format::Json, false).del(&none)), format!("{{{HEADER_JSON}}}\n"));
    let fields = text(kv_printer(Format::Fields, false).del(&none));
    assert_eq!(fields, format!("{HEADER_FIELDS}\"Deleted\" : 0\n"));
}

#[test]
fn txn() {
    let header = Some(ResponseHeader { revision: 13, ..ResponseHeader::default() });
    let put = PutResponse { header, prev_kv: None };
    let range = RangeResponse { header, ..range() };
    let operation = |response| ResponseOp { response: Some(response) };
    let responses = vec![operation(Response::ResponsePut(put)), operation(Response::ResponseRange(range))];
    let txn = TxnResponse { header: Some(HEADER), succeeded: true, responses };
    let failed = TxnResponse { succeeded: false, ..txn.clone() };

    assert_eq!(text(kv_printer(Format::Simple, false).txn(&txn)), "SUCCESS\n\nOK\n\nfoo\nbar3\n");
    assert_eq!(text(kv_printer(Format::Simple, false).txn(&failed)), "FAILURE\n\nOK\n\nfoo\nbar3\n");
    let responses = r#""responses":[{"Response":{"response_put":{"header":{"revision":13}}}},{"Response":{"response_range":{"header":{"revision":13},"kvs":[{"key":"Zm9v","create_revision":2,"mod_revision":4,"version":3,"value":"YmFyMw=="}],"count":1}}}]"#;
    let json = text(kv_printer(Format::Json, false).txn(&txn));
    assert_eq!(json, format!("{{{HEADER_JSON},\"succeeded\":true,{responses}}}\n"));
    let json = text(kv_printer(Format::Json, false).txn(&failed));
    assert_eq!(json, format!("{{{HEADER_JSON},{responses}}}\n"));
    let inner = "\"ClusterID\" : 0\n\"MemberID\" : 0\n\"Revision\" : 13\n\"RaftTerm\" : 0\n";
    let pair = "\"Key\" : \"foo\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 4\n\"Version\" : 3\n\
                \"Value\" : \"bar3\"\n\"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n";
    let fields = text(kv_printer(Format::Fields, false).txn(&txn));
    assert_eq!(fields, format!("{HEADER_FIELDS}\"Succeeded\" : true\n{inner}{inner}{pair}"));
}

fn status_answers() -> [Answer<StatusResponse>; 1] {
    let response = StatusResponse {
        header: Some(HEADER),
        version: "3.7.3".into(),
        db_size: 20480,
        leader: HEADER.member_id,
        raft_index: 27,
        raft_term: 2,
        raft_applied_index: 27,
        errors: vec![],
        db_size_in_use: 16384,
        is_learner: false,
        storage_version: "3.7.0".into(),
        db_size_quota: 2_147_483_648,
        downgrade_info: Some(DowngradeInfo::default()),
    };
    [Answer { endpoint: "127.0.0.1:23790".into(), response }]
}

#[test]
fn status() {
    let printed = |format| text(endpoint_printer(format).status(&status_answers()));
    assert_eq!(
        printed(Format::Simple),
        "127.0.0.1:23790, 2e1259d415f2a040, 3.7.3, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, 2, 27, 27, , , false\n"
    );
    let status = r#""version":"3.7.3","dbSize":20480,"leader":3319814642761637952,"raftIndex":27,"raftTerm":2,"raftAppliedIndex":27,"dbSizeInUse":16384,"storageVersion":"3.7.0","dbSizeQuota":2147483648,"downgradeInfo":{}"#;
    let json = format!("[{{\"Endpoint\":\"127.0.0.1:23790\",\"Status\":{{{HEADER_JSON},{status}}}}}]\n");
    assert_eq!(printed(Format::Json), json);
    let status = "\"Version\" : \"3.7.3\"\n\"StorageVersion\" : \"3.7.0\"\n\"DBSize\" : 20480\n\
                  \"DBSizeInUse\" : 16384\n\"DBSizeQuota\" : 2147483648\n\"Leader\" : 3319814642761637952\n\
                  \"IsLearner\" : false\n\"RaftIndex\" : 27\n\"RaftAppliedIndex\" : 27\n\"Errors\" : []\n\
                  \"Endpoint\" : \"127.0.0.1:23790\"\n\"DowngradeTargetVersion\" : \"\"\n\
                  \"DowngradeEnabled\" : false\n\n";
    assert_eq!(printed(Format::Fields), format!("{HEADER_FIELDS}{status}"));
    assert_eq!(
        printed(Format::Table),
        "\
┌─────────────────┬──────────────────┬─────────┬─────────────────┬─────────┬────────┬───────────────────────┬────────┬───────────┬────────────┬───────────┬────────────┬────────────────────┬────────┬──────────────────────────┬───────────────────┐
│    ENDPOINT     │        ID        │ VERSION │ STORAGE VERSION │ DB SIZE │ IN USE │ PERCENTAGE NOT IN USE │ QUOTA  │ IS LEADER │ IS LEARNER │ RAFT TERM │ RAFT INDEX │ RAFT APPLIED INDEX │ ERRORS │ DOWNGRADE TARGET VERSION │ DOWNGRADE ENABLED │
├─────────────────┼──────────────────┼─────────┼─────────────────┼─────────┼────────┼───────────────────────┼────────┼───────────┼────────────┼───────────┼────────────┼────────────────────┼────────┼──────────────────────────┼───────────────────┤
│ 127.0.0.1:23790 │ 2e1259d415f2a040 │   3.7.3 │           3.7.0 │   20 kB │  16 kB │                   20% │ 2.1 GB │      true │      false │         2 │         27 │                 27 │        │                          │             false │
└─────────────────┴──────────────────┴─────────┴─────────────────┴─────────┴────────┴───────────────────────┴────────┴───────────┴────────────┴───────────┴────────────┴────────────────────┴────────┴──────────────────────────┴───────────────────┘
"
    );
}

#[test]
fn hash() {
    let response =
        HashKvResponse { header: Some(HEADER), hash: 3_359_760_049, compact_revision: 6, hash_revision: 14 };
    let answers = [Answer { endpoint: "127.0.0.1:23790".into(), response }];
    let printed = |format| text(endpoint_printer(format).hash(&answers));
    assert_eq!(printed(Format::Simple), "127.0.0.1:23790, 3359760049, 14\n");
    let hash = r#""hash":3359760049,"compact_revision":6,"hash_revision":14"#;
    let json = format!("[{{\"Endpoint\":\"127.0.0.1:23790\",\"HashKV\":{{{HEADER_JSON},{hash}}}}}]\n");
    assert_eq!(printed(Format::Json), json);
    let hash = "\"Endpoint\" : \"127.0.0.1:23790\"\n\"Hash\" : 3359760049\n\"HashRevision\" : 14\n\n";
    assert_eq!(printed(Format::Fields), format!("{HEADER_FIELDS}{hash}"));
    assert_eq!(
        printed(Format::Table),
        "\
┌─────────────────┬────────────┬───────────────┐
│    ENDPOINT     │    HASH    │ HASH REVISION │
├─────────────────┼────────────┼───────────────┤
│ 127.0.0.1:23790 │ 3359760049 │            14 │
└─────────────────┴────────────┴───────────────┘
"
    );
}

#[test]
fn hash_when_nobody_answered() {
    let printed = |format| text(endpoint_printer(format).hash(&[]));
    assert_eq!(printed(Format::Simple), "");
    assert_eq!(printed(Format::Json), "null\n");
    assert_eq!(
        printed(Format::Table),
        "\
┌──────────┬──────┬───────────────┐
│ ENDPOINT │ HASH │ HASH REVISION │
└──────────┴──────┴───────────────┘
"
    );
}

#[test]
fn members() {
    let member = Member {
        id: HEADER.member_id,
        name: "m1".into(),
        peer_urls: vec!["http://127.0.0.1:23800".into()],
        client_urls: vec!["http://127.0.0.1:23790".into()],
        is_learner: false,
    };
    let header = ResponseHeader { revision: 0, ..HEADER };
    let response = MemberListResponse { header: Some(header), members: vec![member] };
    let printed = |format, hex| text(MembersPrinter::new(&options(format, hex)).members(&response));
    assert_eq!(
        printed(Format::Simple, false),
        "2e1259d415f2a040, started, m1, http://127.0.0.1:23800, http://127.0.0.1:23790, false\n"
    );
    assert_eq!(
        printed(Format::Json, false),
        "{\"header\":{\"cluster_id\":324952591200643719,\"member_id\":3319814642761637952,\"raft_term\":2},\
         \"members\":[{\"ID\":3319814642761637952,\"name\":\"m1\",\"peerURLs\":[\"http://127.0.0.1:23800\"],\
         \"clientURLs\":[\"http://127.0.0.1:23790\"]}]}\n"
    );
    assert_eq!(
        printed(Format::Json, true),
        "{\"header\":{\"cluster_id\":\"48276a8f75b6a87\",\"member_id\":\"2e1259d415f2a040\",\"raft_term\":2},\
         \"members\":[{\"ID\":\"2e1259d415f2a040\",\"name\":\"m1\",\"peerURLs\":[\"http://127.0.0.1:23800\"],\
         \"clientURLs\":[\"http://127.0.0.1:23790\"]}]}\n"
    );
    assert_eq!(
        printed(Format::Fields, true),
        "\"ClusterID\" : 48276a8f75b6a87\n\"MemberID\" : 2e1259d415f2a040\n\"RaftTerm\" : 2\n\
         \"ID\" : 2e1259d415f2a040\n\"Name\" : \"m1\"\n\"PeerURL\" : \"http://127.0.0.1:23800\"\n\
         \"ClientURL\" : \"http://127.0.0.1:23790\"\n\"IsLearner\" : false\n\n"
    );
    assert_eq!(
        printed(Format::Table, false),
        "\
┌──────────────────┬─────────┬──────┬────────────────────────┬────────────────────────┬────────────┐
│        ID        │ STATUS  │ NAME │       PEER ADDRS       │      CLIENT ADDRS      │ IS LEARNER │
├──────────────────┼─────────┼──────┼────────────────────────┼────────────────────────┼────────────┤
│ 2e1259d415f2a040 │ started │   m1 │ http://127.0.0.1:23800 │ http://127.0.0.1:23790 │      false │
└──────────────────┴─────────┴──────┴────────────────────────┴────────────────────────┴────────────┘
"
    );
}
