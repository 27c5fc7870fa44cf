<?php
require 'start.php';
header('Content-Type: application/octet-stream');
echo $_SESSION['blob'] ?? '';
