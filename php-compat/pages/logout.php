<?php
require 'start.php';
$_SESSION = [];
setcookie(session_name(), '', 1, '/');
session_destroy();
echo 'goodbye';
