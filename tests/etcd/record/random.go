package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes operations that often meet: few keys, revisions near the present one.
//
// It keeps to what etcd promises. Ranges have at most twelve keys, because etcd's sort keeps equal pairs in
// order only up to there. A revision of a compaction is not asked for its hash before a restart, because etcd
// would answer from memory what it computed before the removal.
type generator struct {
	*rand.Rand
	vector    *vector
	compacted int64
	deletes   []int64
	cached    map[int64]bool
}

var keys = []string{"a", `a\x00`, "ab", "b", "c", "d", "dd", "e", "f", `\xff`}

// In transactions, deletes keep to the keys from here on and puts to those before: etcd lets a key be deleted and
// put again in one transaction in ways that its own rule forbids, and loses the pair if it is compacted at that
// revision.
const firstDeletable = 5

func (v *vector) random(seed uint64, steps int) {
	g := &generator{rand.New(rand.NewPCG(seed, 0)), v, -1, nil, map[int64]bool{}}
	v.revision = 1
	fmt.Fprintf(&v.text, "# Random operations, seed %d.\n", seed)
	for range steps {
		before := v.revision
		line := g.operation()
		v.run(line)
		if strings.HasPrefix(line, "del") && v.revision > before {
			g.deletes = append(g.deletes, v.revision)
		}
	}
	v.run("hashkv rev=0")
	v.run("restart")
	v.run("hashkv rev=0")
}

func (g *generator) operation() string {
	switch n := g.IntN(100); {
	case n < 36:
		return g.put(keys)
	case n < 44:
		return "del k=" + g.key(keys) + g.maybe(" prev")
	case n < 50:
		return "del" + g.span() + g.maybe(" prev")
	case n < 70:
		return g.read()
	case n < 86:
		return g.txn(0)
	case n < 89:
		return g.compact()
	case n < 99:
		return g.hash()
	default:
		clear(g.cached)
		return "restart"
	}
}

func (g *generator) key(from []string) string {
	return from[g.IntN(len(from))]
}

// maybe gives the text one time in five.
func (g *generator) maybe(text string) string {
	if g.IntN(5) == 0 {
		return text
	}
	return ""
}

// span is a range of keys: mostly between two, sometimes the wrong way round, sometimes without an end.
func (g *generator) span() string {
	end := g.key(keys)
	if g.IntN(4) == 0 {
		end = `\x00`
	}
	return " k=" + g.key(keys) + " e=" + end
}

func (g *generator) put(from []string) string {
	line := "put k=" + g.key(from)
	switch g.IntN(12) {
	case 0:
		line += " ignore_value"
	case 1:
		line += " ignore_lease v=kept"
	case 2:
		line += " v="
	case 3:
		line += " v=x lease=77"
	default:
		line += fmt.Sprintf(" v=%d", g.IntN(8))
	}
	return line + g.maybe(" prev")
}

// nearRevision is mostly one that can be read, sometimes one compacted or in the future.
func (g *generator) nearRevision() int64 {
	oldest := max(g.compacted-1, 1)
	return oldest + g.Int64N(g.vector.revision-oldest+2)
}

func (g *generator) read() string {
	line := "range"
	if g.IntN(4) == 0 {
		line += " k=" + g.key(keys)
	} else {
		line += g.span()
	}
	if g.IntN(3) == 0 {
		line += fmt.Sprintf(" rev=%d", g.nearRevision())
	}
	if g.IntN(3) == 0 {
		line += fmt.Sprintf(" limit=%d", g.IntN(5)-1)
	}
	if g.IntN(2) == 0 {
		targets := []string{"key", "version", "create", "mod", "value"}
		line += " sort=" + g.key(targets) + "/" + g.key([]string{"none", "ascend", "descend"})
	}
	for _, filter := range []string{"min_mod", "max_mod", "min_create", "max_create"} {
		if g.IntN(8) == 0 {
			line += fmt.Sprintf(" %s=%d", filter, g.nearRevision())
		}
	}
	return line + g.maybe(" keys_only") + g.maybe(" count_only")
}

func (g *generator) txn(depth int) string {
	line := "txn if"
	for range g.IntN(3) {
		line += " ( " + g.compare() + " )"
	}
	for _, branch := range []string{" then", " else"} {
		line += branch
		for range g.IntN(4) {
			line += " ( " + g.txnOperation(depth) + " )"
		}
	}
	return line
}

func (g *generator) txnOperation(depth int) string {
	switch n := g.IntN(10); {
	case n < 4:
		return g.put(keys[:firstDeletable])
	case n < 6:
		return "del k=" + g.key(keys[firstDeletable:]) + g.maybe(" prev")
	case n < 9 || depth == 2:
		return g.read()
	default:
		return g.txn(depth + 1)
	}
}

func (g *generator) compare() string {
	keys := g.key(keys) + g.maybe(".."+g.key(keys))
	relation := g.key([]string{"=", "!=", "<", ">"})
	switch g.IntN(5) {
	case 0:
		return fmt.Sprintf("version %s %s %d", keys, relation, g.IntN(4))
	case 1:
		return fmt.Sprintf("create %s %s %d", keys, relation, g.IntN(3)*int(g.nearRevision()))
	case 2:
		return fmt.Sprintf("mod %s %s %d", keys, relation, g.IntN(3)*int(g.nearRevision()))
	case 3:
		return fmt.Sprintf("value %s %s =%d", keys, relation, g.IntN(8))
	default:
		return fmt.Sprintf("lease %s %s %d", keys, relation, g.IntN(2))
	}
}

// compact is often at a delete, whose tombstone must stay.
func (g *generator) compact() string {
	revision := g.nearRevision()
	if len(g.deletes) > 0 && g.IntN(2) == 0 {
		revision = g.deletes[len(g.deletes)-1-g.IntN(min(3, len(g.deletes)))]
	}
	if revision > g.compacted && revision <= g.vector.revision {
		g.compacted = revision
		g.cached[revision] = true
	}
	return fmt.Sprintf("compact rev=%d", revision)
}

func (g *generator) hash() string {
	revision := g.nearRevision()
	if g.cached[revision] || g.IntN(3) == 0 {
		revision = 0
	}
	return fmt.Sprintf("hashkv rev=%d", revision)
}
