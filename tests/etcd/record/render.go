package main

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/status"
)

// The text of an answer: what a client can tell from it, and no ids or terms.

func renderError(err error) string {
	return "error: " + status.Convert(err).Message()
}

// renderKV gives key, value, and the create revision, mod revision, version and lease.
func renderKV(kv *mvccpb.KeyValue) string {
	return fmt.Sprintf("[%s=%s c%d m%d v%d l%d]",
		escape(kv.Key), escape(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

func renderKVs(kvs []*mvccpb.KeyValue) string {
	var text strings.Builder
	for _, kv := range kvs {
		text.WriteString(" " + renderKV(kv))
	}
	return text.String()
}

func renderPut(r *pb.PutResponse) string {
	text := fmt.Sprintf("put rev=%d", r.Header.Revision)
	if r.PrevKv != nil {
		text += " prev " + renderKV(r.PrevKv)
	}
	return text
}

func renderDelete(r *pb.DeleteRangeResponse) string {
	return fmt.Sprintf("del rev=%d deleted=%d", r.Header.Revision, r.Deleted) + renderKVs(r.PrevKvs)
}

func renderRange(r *pb.RangeResponse) string {
	return fmt.Sprintf("range rev=%d count=%d more=%t", r.Header.Revision, r.Count, r.More) + renderKVs(r.Kvs)
}

func renderTxn(r *pb.TxnResponse) string {
	text := fmt.Sprintf("txn rev=%d succeeded=%t", r.Header.Revision, r.Succeeded)
	for _, op := range r.Responses {
		text += " ( " + renderOp(op) + " )"
	}
	return text
}

func renderOp(op *pb.ResponseOp) string {
	switch r := op.Response.(type) {
	case *pb.ResponseOp_ResponsePut:
		return renderPut(r.ResponsePut)
	case *pb.ResponseOp_ResponseDeleteRange:
		return renderDelete(r.ResponseDeleteRange)
	case *pb.ResponseOp_ResponseRange:
		return renderRange(r.ResponseRange)
	case *pb.ResponseOp_ResponseTxn:
		return renderTxn(r.ResponseTxn)
	default:
		return "unset"
	}
}

func renderHashKV(r *pb.HashKVResponse) string {
	return fmt.Sprintf("hashkv rev=%d hash=%08x compact=%d hash_rev=%d",
		r.Header.Revision, r.Hash, r.CompactRevision, r.HashRevision)
}
