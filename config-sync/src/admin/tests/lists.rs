//! Collections.

use serde_json::{Value, json};

use super::super::testing::{Answered, Bench};
use super::route;

fn ids(answer: &Answered) -> Vec<String> {
    let body = answer.json();
    let list = body["list"].as_array().unwrap().iter();
    list.map(|item| item["value"]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_collection_is_listed_with_its_total() {
    let bench = Bench::new();
    assert_eq!(bench.get("/routes").await.json(), json!({"total": 0, "list": []}));
    bench.store.seed("routes/", "init_dir");
    for id in ["b", "a"] {
        bench.put(&format!("/routes/{id}"), &route("/")).await;
    }
    let answer = bench.get("/routes/").await;
    assert_eq!((answer.status, ids(&answer)), (200, vec!["a".to_owned(), "b".to_owned()]));
    let body = answer.json();
    assert_eq!(body["total"], 2);
    assert_eq!(body["list"][0]["key"], "/apisix/routes/a");
    assert_eq!(body["list"][0]["createdIndex"], 3);
}

#[tokio::test]
async fn pages_and_filters_work_together() {
    let bench = Bench::new();
    for id in 1..=11 {
        let mut route = route(&format!("/hello{id}"));
        route["name"] = json!(id.to_string());
        route["labels"] = json!({ id.to_string(): "x" });
        bench.put(&format!("/routes/{id}"), &route).await;
    }
    let page = |number: u32| format!("/routes/?page={number}&page_size=10");
    let first = bench.get(&page(1)).await;
    let by_age: Vec<String> = (1..=10).map(|id: u32| id.to_string()).collect();
    assert_eq!((ids(&first), &first.json()["total"]), (by_age, &json!(11)));
    assert_eq!(ids(&bench.get(&page(2)).await), ["11"]);
    assert_eq!(ids(&bench.get(&page(3)).await), [""; 0]);
    assert_eq!(ids(&bench.get("/routes?name=1").await), ["1", "10", "11"]);
    assert_eq!(ids(&bench.get("/routes?label=1").await), ["1"]);
    assert_eq!(ids(&bench.get("/routes?uri=hello1").await), ["1", "10", "11"]);
    let both = bench.get("/routes?name=1&page=1&page_size=10").await;
    assert_eq!((ids(&both).len(), &both.json()["total"]), (3, &json!(3)));
    let wrong = bench.get("/routes/?page=1&page_size=2").await;
    let text = "page_size must be between 10 and 500";
    assert_eq!((wrong.status, wrong.body.as_str()), (400, text));
    assert_eq!(bench.get("/routes?name=(").await.status, 400);
}

#[tokio::test]
async fn routes_are_found_by_what_they_use() {
    let bench = Bench::new();
    bench.store.seed("upstreams/1", "{}");
    bench.store.seed("services/1", "{}");
    for id in 1..=4 {
        let mut route = json!({"uri": "/"});
        route[if id % 2 == 0 { "service_id" } else { "upstream_id" }] = json!(1);
        assert_eq!(bench.put(&format!("/routes/{id}"), &route).await.status, 201);
    }
    assert_eq!(ids(&bench.get("/routes?filter=service_id%3D1").await), ["2", "4"]);
    assert_eq!(ids(&bench.get("/routes?filter=upstream_id%3D1").await), ["1", "3"]);
    let both = "/routes?filter=upstream_id%3D1%26service_id%3D1";
    assert_eq!(ids(&bench.get(both).await), [""; 0]);
}

#[tokio::test]
async fn what_lies_below_is_hidden() {
    let bench = Bench::new();
    bench.put("/consumers", &json!({"username": "jack"})).await;
    bench.put("/consumers/jack/credentials/c1", &json!({"plugins": {}})).await;
    bench.put("/services/1", &json!({})).await;
    bench.store.seed("services/1/graphql_cost_decorations/1", r#"{"id":"1"}"#);
    for (path, total) in [
        ("/consumers", 1),
        ("/services", 1),
        ("/consumers/jack/credentials", 1),
        ("/services/1/graphql_cost_decorations", 1),
    ] {
        let body = bench.get(path).await.json();
        assert_eq!(body["total"], total, "{path}");
        assert_eq!(body["list"].as_array().map(Vec::len), Some(1), "{path}");
    }
}

#[tokio::test]
async fn private_keys_are_never_shown() {
    let bench = Bench::new();
    bench.store.seed("ssls/1", r#"{"id":"1","cert":"C","key":"K","keys":["L"],"sni":"a"}"#);
    let expected = json!({"id": "1", "cert": "C", "sni": "a"});
    assert_eq!(bench.get("/ssls/1").await.json()["value"], expected);
    assert_eq!(bench.get("/ssls").await.json()["list"][0]["value"], expected);
    let patch = bench.send("PATCH", "/ssls/1", r#"{"sni":"b"}"#).await;
    if patch.status == 200 {
        assert!(patch.json()["value"].get("key").is_none());
    }
}

#[tokio::test]
async fn a_stored_text_that_is_not_json_is_shown_as_it_is() {
    let bench = Bench::new();
    bench.store.seed("routes/1", "not json");
    assert_eq!(bench.get("/routes/1").await.json()["value"], Value::from("not json"));
    assert_eq!(bench.get("/routes").await.json()["list"][0]["value"], Value::from("not json"));
    assert_eq!(bench.send("PATCH", "/routes/1", "{}").await.status, 400);
    assert_eq!(bench.put("/routes/1", &route("/")).await.status, 200);
}
