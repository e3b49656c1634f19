package verdict

import _ "embed" // the schema

// Schema is the JSON Schema of report.yaml and report.json. A test makes it of
// the types, so that it says what they do.
//
//go:embed report.schema.json
var Schema []byte
