<?php
// Who is logged in, and how often they have clicked: a session that reads and writes.
require 'start.php';
$_SESSION['clicks'] = ($_SESSION['clicks'] ?? 0) + 1;
session_write_close();
echo $_SESSION['user'] ?? 'nobody', ' ', $_SESSION['clicks'];
