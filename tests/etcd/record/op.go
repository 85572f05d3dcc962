package main

import (
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The text of an operation is one line of words. Byte strings are written as they are, with \xNN for
// anything but letters, digits and a few signs. A transaction puts each comparison and operation into
// brackets of its own:
//
//	put k=a v=1 prev
//	del k=a e=c
//	range k=a e=\x00 rev=5 sort=mod/descend limit=2
//	txn if ( mod a = 3 ) then ( put k=a v=2 ) ( range k=a ) else ( txn if then ( del k=b ) else )
//	compact rev=5
//	hashkv rev=7
//	restart
type words struct {
	list []string
}

func (w *words) peek() string {
	if len(w.list) == 0 {
		return ""
	}
	return w.list[0]
}

func (w *words) next() string {
	word := w.peek()
	if len(w.list) > 0 {
		w.list = w.list[1:]
	}
	return word
}

func (w *words) expect(word string) {
	if got := w.next(); got != word {
		panic(fmt.Sprintf("%q stands where %q should", got, word))
	}
}

// arguments takes `name=value` and `name` words up to the next bracket or the end.
func (w *words) arguments() map[string]string {
	arguments := map[string]string{}
	for w.peek() != "" && w.peek() != "(" && w.peek() != ")" {
		name, value, _ := strings.Cut(w.next(), "=")
		arguments[name] = value
	}
	return arguments
}

func unescape(text string) []byte {
	unquoted, err := strconv.Unquote(`"` + text + `"`)
	if err != nil {
		panic(fmt.Sprintf("%q is no byte string", text))
	}
	return []byte(unquoted)
}

func escape(bytes []byte) string {
	var text strings.Builder
	for _, b := range bytes {
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("_-./", b) >= 0 {
			text.WriteByte(b)
		} else {
			fmt.Fprintf(&text, `\x%02x`, b)
		}
	}
	return text.String()
}

func number(text string) int64 {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func given(arguments map[string]string, name string) bool {
	_, found := arguments[name]
	return found
}

func parsePut(a map[string]string) *pb.PutRequest {
	return &pb.PutRequest{
		Key: unescape(a["k"]), Value: unescape(a["v"]), Lease: number(a["lease"]),
		PrevKv: given(a, "prev"), IgnoreValue: given(a, "ignore_value"), IgnoreLease: given(a, "ignore_lease"),
	}
}

func parseDelete(a map[string]string) *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: unescape(a["k"]), RangeEnd: unescape(a["e"]), PrevKv: given(a, "prev")}
}

// undefined is a number that none of etcd's enumerations has.
const undefined = 9

var sortTargets = map[string]int32{"": 0, "key": 0, "version": 1, "create": 2, "mod": 3, "value": 4, "undefined": undefined}
var sortOrders = map[string]int32{"": 0, "none": 0, "ascend": 1, "descend": 2, "undefined": undefined}

func parseRange(a map[string]string) *pb.RangeRequest {
	target, order, _ := strings.Cut(a["sort"], "/")
	return &pb.RangeRequest{
		Key: unescape(a["k"]), RangeEnd: unescape(a["e"]), Limit: number(a["limit"]), Revision: number(a["rev"]),
		SortTarget: pb.RangeRequest_SortTarget(sortTargets[target]), SortOrder: pb.RangeRequest_SortOrder(sortOrders[order]),
		KeysOnly: given(a, "keys_only"), CountOnly: given(a, "count_only"),
		MinModRevision: number(a["min_mod"]), MaxModRevision: number(a["max_mod"]),
		MinCreateRevision: number(a["min_create"]), MaxCreateRevision: number(a["max_create"]),
	}
}

func parseTxn(w *words) *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	w.expect("if")
	for w.peek() == "(" {
		w.next()
		txn.Compare = append(txn.Compare, parseCompare(w))
		w.expect(")")
	}
	w.expect("then")
	txn.Success = parseOps(w)
	w.expect("else")
	txn.Failure = parseOps(w)
	return txn
}

func parseOps(w *words) (ops []*pb.RequestOp) {
	for w.peek() == "(" {
		w.next()
		ops = append(ops, parseOp(w))
		w.expect(")")
	}
	return ops
}

func parseOp(w *words) *pb.RequestOp {
	switch kind := w.next(); kind {
	case "put":
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: parsePut(w.arguments())}}
	case "del":
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: parseDelete(w.arguments())}}
	case "range":
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: parseRange(w.arguments())}}
	case "txn":
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: parseTxn(w)}}
	case "unset":
		return &pb.RequestOp{}
	default:
		panic(fmt.Sprintf("%q is no operation", kind))
	}
}

var relations = map[string]int32{"=": 0, ">": 1, "<": 2, "!=": 3, "undefined": undefined}

// parseCompare takes `target key relation operand`; a range goes into the key as `key..end`.
func parseCompare(w *words) *pb.Compare {
	target, keys, relation, operand := w.next(), w.next(), w.next(), w.next()
	key, end, _ := strings.Cut(keys, "..")
	compare := &pb.Compare{
		Key: unescape(key), RangeEnd: unescape(end), Result: pb.Compare_CompareResult(relations[relation]),
	}
	switch target {
	case "version":
		compare.Target, compare.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: number(operand)}
	case "create":
		compare.Target, compare.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: number(operand)}
	case "mod":
		compare.Target, compare.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: number(operand)}
	case "lease":
		compare.Target, compare.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: number(operand)}
	case "value":
		value := unescape(strings.TrimPrefix(operand, "="))
		compare.Target, compare.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: value}
	case "undefined":
		compare.Target = undefined
	default:
		panic(fmt.Sprintf("%q is no comparison target", target))
	}
	return compare
}
