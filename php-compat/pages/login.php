<?php
require 'start.php';
$_SESSION['user'] = $_GET['user'];
echo $_SESSION['user'];
