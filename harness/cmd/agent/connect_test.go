package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

func TestPipeLeadsThereAndBack(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		_, _ = io.WriteString(conn, "you said "+line)
		_ = conn.Close()
	}()
	// Whoever asks keeps its end open, as an exec does: the other end's end is the end.
	in, asking := io.Pipe()
	defer func() { _ = asking.Close() }()
	go func() { _, _ = io.WriteString(asking, "hello\n") }()
	var out bytes.Buffer
	if err := pipe(listener.Addr().String(), in, &out); err != nil || out.String() != "you said hello\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestPipeEndsWithItsInput(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if err := pipe(listener.Addr().String(), strings.NewReader(""), io.Discard); err != nil {
		t.Errorf("got %v of a connection that nobody uses", err)
	}
}

func TestPipeSaysThatNobodyAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	if err := pipe(address, strings.NewReader(""), io.Discard); err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("got %v, wanted an error that names %s", err, address)
	}
}
