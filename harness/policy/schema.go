package policy

import _ "embed" // for the schema

// Schema is the JSON schema of a contract, for editors.
//
//go:embed contract.schema.json
var Schema []byte
