// Verifies a log of ours with what Debian's golang.org/x/mod/sumdb knows of notes and
// tlogs, and nothing of ours: the checkpoint's signature, every tile, every entry and,
// from each earlier size that is given, that the log has only grown.
//
//	verify_log URL VKEY [OLD_SIZE:OLD_ROOT_BASE64]...
package main

import (
	"encoding/binary"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "verify_log: "+format+"\n", args...)
	os.Exit(1)
}

func get(url string) []byte {
	response, err := http.Get(url)
	if err != nil {
		fail("%v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		fail("%s: %s %v", url, response.Status, err)
	}
	return body
}

func hashOf(text string) (hash tlog.Hash) {
	bytes, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(bytes) != len(hash) {
		fail("expected the base64 of a hash")
	}
	copy(hash[:], bytes)
	return hash
}

func sizeOf(text string) int64 {
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != text {
		fail("expected a size")
	}
	return size
}

// tiles reads tiles by the paths of tlog-tiles, which name no height.
type tiles struct {
	url  string
	read int
}

func (t *tiles) Height() int { return height }

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		out = append(out, get(t.url+"/"+path))
		t.read++
	}
	return out, nil
}

func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func main() {
	if len(os.Args) < 3 {
		fail("expected URL and VKEY")
	}
	url, vkey := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		fail("%v", err)
	}
	opened, err := note.Open(get(url+"/checkpoint"), note.VerifierList(verifier))
	if err != nil {
		fail("checkpoint: %v", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		fail("expected a checkpoint of %s", verifier.Name())
	}
	tree := tlog.Tree{N: sizeOf(lines[1]), Hash: hashOf(lines[2])}

	source := &tiles{url: url}
	reader := tlog.TileHashReader(tree, source) // refuses tiles that do not lead to tree.Hash
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil || root != tree.Hash {
		fail("tree: %v", err)
	}
	for _, earlier := range os.Args[3:] {
		size, hash, _ := strings.Cut(earlier, ":")
		proof, err := tlog.ProveTree(tree.N, sizeOf(size), reader)
		if err != nil {
			fail("%v", err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, sizeOf(size), hashOf(hash)); err != nil {
			fail("from %s: %v", size, err)
		}
	}
	for first := int64(0); first < tree.N; first += 1 << height {
		tile := tlog.Tile{H: height, L: -1, N: first >> height, W: 1 << height}
		if tree.N-first < 1<<height {
			tile.W = int(tree.N - first)
		}
		path := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
		bundle := get(url + "/" + path)
		for i := 0; i < tile.W; i++ {
			length := int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2 : 2+length]
			bundle = bundle[2+length:]
			index := first + int64(i)
			proof, err := tlog.ProveRecord(tree.N, index, reader)
			if err != nil {
				fail("entry %d: %v", index, err)
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
				fail("entry %d: %v", index, err)
			}
		}
		if len(bundle) != 0 {
			fail("%s: expected no more bytes", path)
		}
	}
	fmt.Printf("%d entries, %d earlier trees, %d tiles read\n", tree.N, len(os.Args)-3, source.read)
}
