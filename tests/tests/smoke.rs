use osmia_tests::{Config, Upstream, on_each_driver};
on_each_driver! {
    fn hello(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        eprintln!("{}", gateway.log().so_far());
        let mut client = gateway.client();
        client.send_get("/x");
        let mut peer = upstream.accept();
        eprintln!("{}", peer.serve_one("hi"));
        let r = client.response();
        eprintln!("{r}");
        assert_eq!(r.text(), "hi");
    }
}
