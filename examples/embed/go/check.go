// SPDX-License-Identifier: Apache-2.0

// A product in Go asks the local API of the licensing service.
//
//	go run check.go SOCKET PRODUCT ROOT      exit code: 0 licensed, 1 not, 2 could not ask
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

type check struct {
	Product     string `json:"product"`
	State       string `json:"state"`
	Licensed    bool   `json:"licensed"`
	Enforcement string `json:"enforcement"`
	Detail      string `json:"detail"` // of a problem document
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: check SOCKET PRODUCT ROOT")
		os.Exit(2)
	}
	found, err := ask(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // no service: the product goes on as its own rules say, and shows it
		os.Exit(2)
	}
	fmt.Printf("%s: %s, %s\n", found.Product, found.State, found.Enforcement)
	if !found.Licensed {
		os.Exit(1)
	}
}

func ask(socket, product, root string) (found check, err error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 10 * time.Second}
	answer, err := client.Get("http://volact/v1/products/" + product + "/check?root=" + url.QueryEscape(root))
	if err != nil {
		return found, err
	}
	defer answer.Body.Close()
	if err = json.NewDecoder(answer.Body).Decode(&found); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, found.Detail)
	}
	return found, err
}
