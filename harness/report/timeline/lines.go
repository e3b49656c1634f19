package timeline

import (
	"bufio"
	"os"
)

// maxLine bounds a line: an audit event with the largest object that the API server takes.
const maxLine = 16 << 20

// eachLine calls do with every line of a file, in one pass. The line is only good until do returns.
func eachLine(path string, do func(line []byte)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(make([]byte, 1<<20), maxLine)
	for scanner.Scan() {
		do(scanner.Bytes())
	}
	return scanner.Err()
}
