"""What the tests stand on: real servers, a closed network, a browser. Never imported by the site."""
