package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// controlHandler is the control API:
//
//	PUT    /rules/{id}                   a Rule; 200 RuleStatus, 400 if it is bad
//	DELETE /rules/{id}                   heals one; 204, also if there is none
//	DELETE /rules                        heals all; 204
//	GET    /rules                        200 RuleList
//	PUT    /oracle                       an Oracle; 204, 400 if it is bad
//	DELETE /oracle                       it answers nothing any more; 204
//	GET    /records?since=&pathPrefix=   200 RecordsPage of those with a Seq above since
//	GET    /healthz                      200, needs no token
func (s *Server) controlHandler(token string) http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("PUT /rules/{id}", func(w http.ResponseWriter, r *http.Request) {
		rule, err := readRule(http.MaxBytesReader(w, r.Body, 1<<20), r.PathValue("id"))
		if err == nil {
			var status api.RuleStatus
			if status, err = s.Put(rule); err == nil {
				writeJSON(w, http.StatusOK, status)
				return
			}
		}
		refuse(w, http.StatusBadRequest, err)
	})
	routes.HandleFunc("DELETE /rules/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		s.rules.remove(func(a *activeRule) bool { return a.ID == id })
		w.WriteHeader(http.StatusNoContent)
	})
	routes.HandleFunc("DELETE /rules", func(w http.ResponseWriter, _ *http.Request) {
		s.HealAll()
		w.WriteHeader(http.StatusNoContent)
	})
	routes.HandleFunc("GET /rules", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.rules.list())
	})
	routes.HandleFunc("PUT /oracle", func(w http.ResponseWriter, r *http.Request) {
		var given api.Oracle
		err := readOne(http.MaxBytesReader(w, r.Body, 1<<20), &given)
		if err == nil {
			err = s.SetOracle(&given)
		}
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	routes.HandleFunc("DELETE /oracle", func(w http.ResponseWriter, _ *http.Request) {
		_ = s.SetOracle(nil)
		w.WriteHeader(http.StatusNoContent)
	})
	routes.HandleFunc("GET /records", func(w http.ResponseWriter, r *http.Request) {
		var since int64
		if v := r.FormValue("since"); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				refuse(w, http.StatusBadRequest, fmt.Errorf("since: want a number from 0, found %q", v))
				return
			}
			since = n
		}
		writeJSON(w, http.StatusOK, s.book.page(since, r.FormValue("pathPrefix")))
	})

	all := http.NewServeMux()
	all.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	want := sha256.Sum256([]byte(token)) // of one length, as the comparison wants
	all.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(value))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, errors.New("want Authorization: Bearer with the gateway's token"))
			return
		}
		routes.ServeHTTP(w, r)
	})
	return all
}

// readRule reads exactly one rule. The ID is that of the URL; the body need not
// repeat it.
func readRule(from io.Reader, id string) (api.Rule, error) {
	var rule api.Rule
	if err := readOne(from, &rule); err != nil {
		return rule, err
	}
	if rule.ID != "" && rule.ID != id {
		return rule, fmt.Errorf("id: want %q as in the URL, found %q", id, rule.ID)
	}
	rule.ID = id
	return rule, nil
}

// readOne reads exactly one value.
func readOne(from io.Reader, into any) error {
	dec := json.NewDecoder(from)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("want one value, found more after it")
		}
	}
	if err != nil {
		at := dec.InputOffset()
		var syntax *json.SyntaxError
		var wrongType *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			at = syntax.Offset
		case errors.As(err, &wrongType):
			at = wrongType.Offset
		}
		return fmt.Errorf("byte %d: %w", at, err)
	}
	return nil
}

func refuse(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, api.ErrorBody{Error: err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only if the client is gone
}
