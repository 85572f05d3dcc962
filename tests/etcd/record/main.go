// Record replays operations on a real etcd and writes down what it answers, for crates/store to be compared
// with.
//
//	cd tests/etcd && go build -o bin go.etcd.io/etcd/etcdctl/v3 go.etcd.io/etcd/server/v3 ./record
//	bin/record -etcd bin/server -random 42 -steps 1000 -out ../../crates/store/tests/vectors/random_42
//	bin/record -etcd bin/server -replay ../../crates/store/tests/vectors/nested_transactions
//
// A vector file has a line for each operation and after it a line with the answer, which begins with "> ".
// Lines that begin with # are kept. Replaying a file ignores the answers in it and writes new ones, so a file
// of operations alone is how a new one is begun.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// maxTxnOps is set low, so that short transactions exceed it. crates/store/tests/vectors.rs has it too.
const maxTxnOps = 8

func main() {
	binary := flag.String("etcd", "bin/server", "the etcd server to ask")
	replay := flag.String("replay", "", "a vector file whose operations are run again")
	random := flag.Uint64("random", 0, "the seed of random operations")
	steps := flag.Int("steps", 1000, "how many random operations")
	out := flag.String("out", "", "the vector file to write; that of -replay if not given")
	flag.Parse()
	if *out == "" {
		*out = *replay
	}

	directory, err := os.MkdirTemp("", "record-*.etcd")
	check(err)
	defer os.RemoveAll(directory)
	etcd := &server{binary: *binary, directory: directory, maxTxnOps: maxTxnOps}
	check(etcd.start())
	defer etcd.stop()

	vector := &vector{etcd: etcd}
	if *replay != "" {
		vector.replay(*replay)
	} else {
		vector.random(*random, *steps)
	}
	check(os.WriteFile(*out, []byte(vector.text.String()), 0o644))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// vector is a vector file being written.
type vector struct {
	etcd *server
	text strings.Builder
	// What the random operations need to know of the state.
	revision int64
}

func (v *vector) replay(path string) {
	text, err := os.ReadFile(path)
	check(err)
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "> "):
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&v.text, line)
		default:
			v.run(line)
		}
	}
}

func (v *vector) run(line string) {
	answer, err := v.ask(&words{strings.Fields(line)})
	if err != nil {
		answer = renderError(err)
	}
	fmt.Fprintf(&v.text, "%s\n> %s\n", line, answer)
}

func (v *vector) ask(w *words) (string, error) {
	ctx := context.Background()
	kv, maintenance := pb.NewKVClient(v.etcd.conn), pb.NewMaintenanceClient(v.etcd.conn)
	switch kind := w.next(); kind {
	case "put":
		r, err := kv.Put(ctx, parsePut(w.arguments()))
		if err != nil {
			return "", err
		}
		v.revision = r.Header.Revision
		return renderPut(r), nil
	case "del":
		r, err := kv.DeleteRange(ctx, parseDelete(w.arguments()))
		if err != nil {
			return "", err
		}
		v.revision = r.Header.Revision
		return renderDelete(r), nil
	case "range":
		r, err := kv.Range(ctx, parseRange(w.arguments()))
		if err != nil {
			return "", err
		}
		return renderRange(r), nil
	case "txn":
		r, err := kv.Txn(ctx, parseTxn(w))
		if err != nil {
			return "", err
		}
		v.revision = r.Header.Revision
		return renderTxn(r), nil
	case "compact":
		// Physical: the answer comes when the removal is done, so that hashes are those of the result.
		r, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: number(w.arguments()["rev"]), Physical: true})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("compact rev=%d", r.Header.Revision), nil
	case "hashkv":
		r, err := maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: number(w.arguments()["rev"])})
		if err != nil {
			return "", err
		}
		return renderHashKV(r), nil
	case "restart":
		// etcd forgets the hashes that it has kept from its compactions.
		check(v.etcd.stop())
		check(v.etcd.start())
		return "restart", nil
	default:
		panic(fmt.Sprintf("%q is no operation", kind))
	}
}
