<?php
// As click.php, by a page that holds its session for ?seconds=.
require 'start.php';
sleep((int) $_GET['seconds']);
$_SESSION['clicks'] = ($_SESSION['clicks'] ?? 0) + 1;
session_write_close();
echo $_SESSION['user'] ?? 'nobody', ' ', $_SESSION['clicks'];
