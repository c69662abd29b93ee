"""From raw downloads to prepared datasets: a folder with `meta.json` that `fap_lib` reads."""
