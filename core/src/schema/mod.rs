//! JSON Schemas of the resources, and validation against them in APISIX's words.
