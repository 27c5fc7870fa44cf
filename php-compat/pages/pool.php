<?php
// Stores ?keys= values of ?bytes= each on the server of session.save_path and asks for them all at
// once: the one thing that pecl memcache does over UDP. Echoes how many came back as they were.
$server = parse_url(ini_get('session.save_path'));
parse_str($server['query'], $parameters);
$pool = new MemcachePool();
$pool->addServer($server['host'], $server['port'], (int) $parameters['udp_port'], false);
$stored = [];
for ($i = 0; $i < $_GET['keys']; $i++) {
    $stored["pool-$i"] = str_repeat(chr(ord('a') + $i % 26), $_GET['bytes']);
    $pool->set("pool-$i", $stored["pool-$i"]);
}
$found = $pool->get(array_keys($stored)) ?: [];
echo count(array_intersect_assoc($stored, $found));
