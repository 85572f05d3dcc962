// Reads a server's /metrics with the parser that scrapers are made with, and prints every family of etcd's names with
// its type and its labels, one a line, sorted. A content type or a line that the parser does not take is an error.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	format := expfmt.ResponseFormat(response.Header)
	if response.StatusCode != http.StatusOK || format.FormatType() != expfmt.TypeTextPlain {
		return fmt.Errorf("%s: %s, %q", url, response.Status, response.Header.Get("Content-Type"))
	}
	decoder := expfmt.NewDecoder(response.Body, format)
	var lines []string
	for {
		family := &dto.MetricFamily{}
		if err := decoder.Decode(family); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
		if strings.HasPrefix(family.GetName(), "etcd_") {
			lines = append(lines, describe(family))
		}
	}
	sort.Strings(lines)
	fmt.Println("content type", response.Header.Get("Content-Type"))
	fmt.Println(strings.Join(lines, "\n"))
	return nil
}

func describe(family *dto.MetricFamily) string {
	labels := map[string]bool{}
	for _, metric := range family.GetMetric() {
		for _, label := range metric.GetLabel() {
			labels[label.GetName()] = true
		}
	}
	var names []string
	for name := range labels {
		names = append(names, name)
	}
	sort.Strings(names)
	return fmt.Sprintf("%s %s {%s}", family.GetName(), family.GetType(), strings.Join(names, ","))
}
