<?php
require 'start.php';
echo $_SESSION['user'] ?? 'nobody';
