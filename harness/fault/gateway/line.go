package gateway

import (
	"slices"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// line is a connection's link of toxiproxy with one toxic on it, that takes a piece at a time: a request's head, so that the
// toxic decides whether and when the request goes on, or a part of a body, so that many bodies share one line.
type line struct {
	stub  *toxics.ToxicStub
	toxic toxics.Toxic
	in    chan<- *stream.StreamChunk
	out   <-chan *stream.StreamChunk

	turn         chan struct{} // a mutex: a piece arrives before the next one is sent
	healed, open bool          // open: when it was healed
}

func newLine(toxic toxics.Toxic) *line {
	buffer := 0
	if buffered, ok := toxic.(toxics.BufferedToxic); ok {
		buffer = buffered.GetBufferSize()
	}
	in, out := make(chan *stream.StreamChunk, buffer), make(chan *stream.StreamChunk)
	l := &line{stub: toxics.NewToxicStub(in, out), toxic: toxic, in: in, out: out, turn: make(chan struct{}, 1)}
	go l.run(toxic)
	return l
}

func (l *line) run(toxic toxics.Toxic) {
	l.stub.Run(&toxics.ToxicWrapper{Toxic: toxic, Toxicity: 1})
}

// carry returns when p has arrived, or false when the toxic has closed the line. Over a healed line it arrives at once.
func (l *line) carry(p []byte) bool {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	switch {
	case l.healed:
		return l.open
	case l.stub.Closed():
		return false
	}
	l.in <- &stream.StreamChunk{Data: slices.Clone(p), Timestamp: time.Now()}
	for arrived := 0; arrived < len(p); {
		chunk, open := <-l.out
		if !open {
			return false
		}
		arrived += copy(p[arrived:], chunk.Data)
	}
	return true
}

// heal takes the toxic off the line, as toxiproxy does: what is under way arrives, unless the toxic's end is the
// connection's. It is called once.
func (l *line) heal() {
	if l.stub.InterruptToxic() {
		if last, ok := l.toxic.(toxics.CleanupToxic); ok {
			last.Cleanup(l.stub)
		} else {
			go l.run(new(toxics.NoopToxic))
		}
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.healed, l.open = true, !l.stub.Closed()
	close(l.in) // which ends the last goroutine
}
