// Reaching the hub: names, proxies, TLS, one HTTP exchange or one upgrade.
