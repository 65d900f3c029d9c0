"""`/openapi.json` against the specification of OpenAPI 3.1 (`openapi-spec-validator`): BASE_URL names the server."""

import json
import os
import urllib.request

import referencing.exceptions
from openapi_spec_validator import OpenAPIV31SpecValidator

BASE = os.environ["BASE_URL"].rstrip("/")


def document():
    with urllib.request.urlopen(BASE + "/openapi.json") as answer:
        return json.load(answer)


def main():
    whole = document()
    OpenAPIV31SpecValidator(whole).validate()
    # The validator finds errors: a reference to nothing is one.
    whole["paths"]["/v1/models"]["get"]["responses"]["default"]["content"]["application/json"]["schema"] = {
        "$ref": "#/components/schemas/Nothing"
    }
    try:
        errors = list(OpenAPIV31SpecValidator(whole).iter_errors())
    except referencing.exceptions.PointerToNowhere as error:
        errors = [error]
    assert errors, "a broken reference is not found"
    print("openapi: ok")


if __name__ == "__main__":
    main()
