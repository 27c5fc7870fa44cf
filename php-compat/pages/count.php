<?php
// Read, wait a moment, write: two of these at once lose an increment unless the lock holds.
require 'start.php';
$count = $_SESSION['count'] ?? 0;
usleep(500);
$_SESSION['count'] = $count + 1;
session_write_close();
echo $count + 1;
